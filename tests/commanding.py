"""Management commands in tests: call them, take what they say, and look at what the database holds."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import mongoengine
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from django.core.management import CommandError, call_command
from django.utils import timezone
from pymongo.monitoring import CommandListener

RAW = CodecOptions(document_class=RawBSONDocument)
WRITES = {
    "insert",
    "update",
    "delete",
    "findAndModify",
    "create",
    "createIndexes",
    "drop",
    "commitTransaction",
}


@dataclass(frozen=True)
class Said:
    """What a command wrote, and the error that ended it."""

    out: str
    err: str
    error: CommandError | None

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def changeset(self) -> str:
        """The id of the changeset that it says it has written."""
        return self.out.rpartition("changeset ")[2].split()[0]


def run(name: str, *arguments: Any) -> Said:
    """Call a command as a shell would; its CommandError is part of the answer."""
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command(name, *map(str, arguments), stdout=out, stderr=err, no_color=True)
    except CommandError as error:
        return Said(out.getvalue(), err.getvalue(), error)
    return Said(out.getvalue(), err.getvalue(), None)


def revert(*arguments: Any) -> Said:
    """`history_revert --no-input`."""
    return run("history_revert", *arguments, "--no-input")


def now() -> datetime:
    """A moment after every write so far and before every later one."""
    time.sleep(0.002)
    moment = timezone.now()
    time.sleep(0.002)
    return moment


def iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def stored(*collections: str) -> dict[tuple[str, Any], bytes]:
    """The documents of these collections as bytes; without names, of all but the history."""
    database = mongoengine.get_db()
    names = collections or [name for name in database.list_collection_names() if name != "document_history"]
    return {
        (name, found["_id"]): found.raw
        for name in names
        for found in database.get_collection(name, codec_options=RAW).find()
    }


def version_count(**wanted: Any) -> int:
    return mongoengine.get_db()["document_history"].count_documents(wanted)


class WriteListener(CommandListener):
    """Keeps the names of the commands that write."""

    def __init__(self) -> None:
        self.writes: list[str] = []

    def started(self, event: Any) -> None:
        if event.command_name in WRITES:
            self.writes.append(event.command_name)

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass
