"""MongoEngine's default connection, overheard: every command that it sends, with the collection that it is about."""

from __future__ import annotations

from typing import Any

import mongoengine
from pymongo.monitoring import CommandListener

WRITES = frozenset(
    {"insert", "update", "delete", "findAndModify", "drop", "dropDatabase", "renameCollection", "bulkWrite"}
)


class Overheard(CommandListener):
    """`commands`: name and collection of each that was sent, in order."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, str]] = []

    def started(self, event: Any) -> None:
        self.commands.append((event.command_name, str(event.command.get(event.command_name))))

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass

    def writes(self, *, but: str = "") -> list[tuple[str, str]]:
        """What wrote, and was not to the collection `but`; the rest is forgotten."""
        found = [one for one in self.commands if one[0] in WRITES and one[1] != but]
        self.commands.clear()
        return found


def overhear(name: str, uri: str) -> Overheard:
    """Connect MongoEngine anew, to the database of this name."""
    listener = Overheard()
    mongoengine.disconnect()
    mongoengine.connect(
        name, host=uri, event_listeners=[listener], uuidRepresentation="standard", tz_aware=True
    )
    return listener
