"""
Functions that settings name: by dotted path, looked up at the first call, or the functions themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

Named = str | Callable[..., Any] | None


class ByPath:
    """A function by its dotted path. Imported when it is first called: settings are read before models are ready."""

    __slots__ = ("_found", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._found: Callable[..., Any] | None = None

    def __call__(self, *args: Any) -> Any:
        if self._found is None:
            self._found = find_callable(self._path)
        return self._found(*args)

    def __repr__(self) -> str:
        return self._path


def as_callables(named: Named) -> tuple[Callable[..., Any], ...]:
    """None or one, ready to be called."""
    if named is None:
        return ()
    return (ByPath(named) if isinstance(named, str) else named,)


def find_callable(path: str) -> Callable[..., Any]:
    """
    What a dotted path names: something in a module, or in a class of one.

    Raises: ImportError where there is no such thing, or where it cannot be called; what the module itself raises.
    """
    parts = path.split(".")
    found: Any = None
    for length in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:length])
        try:
            found = import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
                raise
            continue
        for part in parts[length:]:
            found = getattr(found, part, None)
        break
    if not callable(found):
        raise ImportError(f"{path!r} names nothing that can be called")  # noqa: TRY004 - a setting is wrong, no argument
    return found  # type: ignore[no-any-return]
