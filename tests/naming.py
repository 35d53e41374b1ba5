"""Names of parametrized tests: they must be the same in every process, so that several can divide the tests."""

from __future__ import annotations

import re
from typing import Any

_OF_THIS_PROCESS = re.compile(r" at 0x[0-9a-f]+|(?<=ObjectId\(')[0-9a-f]{24}(?='\))")


def stable(value: Any) -> str:
    """Its repr() without addresses and made ids; for `ids=`."""
    return _OF_THIS_PROCESS.sub("", repr(value))
