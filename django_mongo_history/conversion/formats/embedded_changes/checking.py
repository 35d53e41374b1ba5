"""What is looked at before a run: whether the list is there, and whether it would carry hidden values along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

from django_mongo_history.conversion.base import Format
from django_mongo_history.conversion.facts import at
from django_mongo_history.conversion.formats.embedded_changes.entries import Entries
from django_mongo_history.core import policy as policies
from django_mongo_history.errors import ConversionError


class Check:
    """Looks at the lists of one format."""

    def __init__(self, source: Format, entries: Entries) -> None:
        self._source = source
        self._entries = entries
        self.target = source.target
        self.given = source.given

    @cached_property
    def is_list_tracked(self) -> bool:
        """Whether states have the list in them."""
        policy = self.target.source.tracked.policy
        path = tuple(self.given["list_field"].split("."))
        return not (policies.is_untracked(path, policy) or policies.is_hidden(path, policy))

    def check(self) -> None:
        """Raises: ConversionError where that is not so."""
        if not self.given["list_field"]:
            raise ConversionError("embedded-changes: name the list with --list-field, as in history.changes.")
        if self._source.rows.find_one(self._source.query(), {"_id": 1}) is None:
            raise ConversionError(
                f"embedded-changes: no document of {self._source.rows.full_name} has entries in {self.given['list_field']}.",
                is_empty=True,
            )
        for name in ("changes_field", "time_field", "user_field", "remote_addr_field", "reason_field"):
            self._check_field(name)
        self._check_hidden()

    def _check_field(self, name: str) -> None:
        path = self.given[name]
        if path is None:
            return
        place = f"{self.given['list_field']}.{path}"
        if self._source.rows.find_one({**self._source.query(), place: {"$exists": True}}, {"_id": 1}) is None:
            document = self._source.rows.find_one(self._source.query())
            entries = at(document, self.given["list_field"])
            entry = entries[0] if isinstance(entries, list) else None
            found = ", ".join(entry) if isinstance(entry, Mapping) else "no documents"
            raise ConversionError(
                f"--{name.replace('_', '-')}: no entry of {self._source.place} has {path!r}. The fields of one: {found}.",
                option=name,
            )

    def _check_hidden(self) -> None:
        """Raises: ConversionError where the list would carry hidden or untracked values into the versions."""
        if not self.is_list_tracked:
            return
        policy = self.target.policy_of(None)  # classes below this one may hide more
        rules = {rule[0] for rule in (*policy.hidden, *policy.untracked)}
        told = {name for name in self._told_paths() if rules & {"*", self._first(name)}} if rules else set()
        if told:
            shown = ", ".join(sorted(told))
            raise ConversionError(
                f"{self._source.place} holds values of {shown}, which {self.target.label} hides or leaves untracked, and is tracked "
                f"itself. Add {self.given['list_field']!r} to its `untracked`, so that no version holds them.",
                paths=sorted(told),
            )

    def remarks(self) -> Iterator[str]:
        """Where the list is tracked each state holds it, one entry longer each: that grows with the square of its length."""
        if self.is_list_tracked:
            yield (
                f"{self.given['list_field']} is tracked, so each state has the list in it. Where lists are long, add it to "
                f"`untracked` of {self.target.label} first."
            )

    def _told_paths(self) -> Iterator[str]:
        parts = (self.given["list_field"], self.given["changes_field"], self.given["path_field"])
        for found in self._source.rows.distinct(".".join(part for part in parts if part)):
            if isinstance(found, str):
                yield found

    def _first(self, told: str) -> str:
        return str(self._entries.path(told)).partition(".")[0]
