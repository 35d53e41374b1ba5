"""
The settings page of the documentation, made from the same rows that read the settings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django_mongo_history.conf.reading import ROWS
from django_mongo_history.conf.rows import Row
from django_mongo_history.conf.tracked import ENTRY_ROWS

_HEAD: Final = """\
# Settings

<!-- Written by `django_mongo_history.conf.settings_reference()`; a test compares the two. -->

`TRACKED_DOCUMENTS` says which documents are tracked, `MONGO_HISTORY` holds everything else. Every key has a default.
`manage.py check` finds unknown keys and wrong values.

```python
TRACKED_DOCUMENTS = [
    "shop.documents.Order",
    {
        "document": "shop.documents.Account",
        "untracked": ["last_seen"],
        "hidden": ["password", "cards.number"],
    },
]
MONGO_HISTORY = {"DELIVERY": "auto"}
```
"""

_ENTRY_HEAD: Final = """\
## An entry of `TRACKED_DOCUMENTS`

A dotted path, or a dict with these keys. Paths are attribute names (database names too), through lists without an
index, `*` for any key.
"""


def settings_reference() -> str:
    """`docs/settings.md`."""
    settings = _table(ROWS, unit="Unit")
    entry = _table(ENTRY_ROWS)
    return "\n".join([_HEAD, "## `MONGO_HISTORY`", "", settings, "", _ENTRY_HEAD, entry, ""])


def _table(rows: Iterable[Row], *, unit: str | None = None) -> str:
    columns = ["Key", "Type", "Default", *([unit] if unit else []), "Meaning"]
    lines = [columns, ["---"] * len(columns)]
    for row in rows:
        cells = [f"`{row.key}`", row.type, _default(row.default), *([row.unit] if unit else []), row.meaning]
        lines.append([cell.replace("|", "\\|") for cell in cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _default(default: Any) -> str:
    if default is ...:
        return "required"
    if isinstance(default, tuple):
        return f"`{list(default)!r}`"
    return (
        f"`{default!r}`"
        if isinstance(default, (str, int, float)) or default is None
        else f"`{dict(default)!r}`"
    )
