"""
A number that stays the BSON type it was given.

MongoEngine's FloatField turns 450 into 450.0, and its change tracking takes the two for equal. Here a Python int is
stored as an integer, a float as a double, and going from one to the other is a change.
"""

import math
import re
from typing import Any

from mongoengine.base import BaseField

_INTEGER = re.compile(r"[+-]?\d+")


def number(text: str) -> int | float:
    """The number that `text` writes: `450` is an int, `450.0` and `4.5e2` are floats. Raises ValueError."""
    if _INTEGER.fullmatch(text):
        return int(text)
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"not a finite number: {text!r}")
    return value


def is_exactly(old: object, new: object) -> bool:
    """Whether two scalars are the same value of the same type: 450 and 450.0 are not."""
    return type(old) is type(new) and old == new


class NumberField(BaseField):
    """An int or a float, kept as given."""

    def __set__(self, instance: Any, value: object) -> None:
        """Assign; a change of type alone counts as a change."""
        if instance._initialised and not is_exactly(instance._data.get(self.name), value):
            instance._mark_as_changed(self.name)
        super().__set__(instance, value)

    def validate(self, value: object) -> None:
        """Accept finite ints and floats, nothing else; a bool is no number here."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.error(f"{value!r} is neither an int nor a float")
        if not math.isfinite(value):
            self.error(f"{value!r} is not finite")
