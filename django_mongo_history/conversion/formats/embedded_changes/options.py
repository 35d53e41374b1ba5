"""The options of the format."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from django_mongo_history.conversion import facts
from django_mongo_history.conversion.options import Option, text

OLDEST_FIRST: Final = "asc"
NEWEST_FIRST: Final = "desc"

OPTIONS: Final[tuple[Option, ...]] = (
    Option("list_field", "Where in a document its list of changes is, as in history.changes.", read=text, metavar="PATH"),
    Option("changes_field", "Where in an entry its changes are, if an entry holds several.", read=text, metavar="PATH"),
    Option("path_field", "Where a change says which field.", default="field", read=text),
    Option("old_field", "Where a change says the value before it.", default="old_value", read=text),
    Option("new_field", "Where a change says the value after it.", default="new_value", read=text),
    replace(facts.TIME_FIELD, default="timestamp"),
    *facts.WHO,
    Option("order", "How the list is ordered: asc, new entries at its end, or desc, at its start.",
           default=OLDEST_FIRST, read=text, choices=(OLDEST_FIRST, NEWEST_FIRST), metavar="ORDER"),
    facts.SOURCE_TIMEZONE,
    facts.CONVERT_TEXTS,
    Option("strip", "Remove the list from each document, once all of its entries are converted.", is_flag=True,
           default=False),
)  # fmt: skip
