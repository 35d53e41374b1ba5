"""
The pytest plugin that tracks every document class of a foreign suite, and replays what was recorded after each test.

Loaded by `management.commands.foreign_suite` into a process of its own; Django is configured here, with the history in
a database that the suite does not know.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings

HISTORY_DATABASE = "history_of_the_foreign_suite"
TRACKS = os.environ.get("FOREIGN_SUITE_TRACKS") == "1"


def pytest_configure(config: pytest.Config) -> None:
    """Configure Django and, in the tracked run, track every document class as it is defined."""
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
        MONGO_HISTORY={
            "DATABASE": HISTORY_DATABASE,
            "ATTRIBUTE": "history_in_the_foreign_suite",
            "DELIVERY": os.environ.get("FOREIGN_SUITE_DELIVERY", "auto"),
        },
        TRACKED_DOCUMENTS=[],
        USE_TZ=True,
    )
    django.setup()
    if TRACKS:
        config.pluginmanager.register(_Judge(), "foreign-judge")
        _track_every_class()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write each test's outcome where the command reads it; a failure in any phase counts."""
    if report.when == "call" or report.outcome != "passed":
        with Path(os.environ["FOREIGN_SUITE_REPORT"]).open("a") as lines:
            lines.write(f"{report.outcome} {report.nodeid}\n")


def _track_every_class() -> None:
    from mongoengine.base import TopLevelDocumentMetaclass

    from django_mongo_history import documents, runtime
    from django_mongo_history.registry import Tracked, label_of

    original = TopLevelDocumentMetaclass.__new__

    def new(mcs: Any, name: str, bases: tuple[type, ...], attributes: dict[str, Any]) -> Any:
        made = original(mcs, name, bases, attributes)
        if documents.is_document_class(made) and not documents.is_time_series(made):
            runtime.register(Tracked(made, label_of(made)))
        return made

    TopLevelDocumentMetaclass.__new__ = new


class _Judge:
    """Counts what was recorded, and whether it leads to what is stored."""

    def __init__(self) -> None:
        self.versions = 0
        self.documents = 0
        self.findings: list[str] = []

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        self._judge(item.nodeid)
        yield

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.section("history")
        terminalreporter.write_line(f"{self.versions} versions of {self.documents} documents replayed")
        for finding in self.findings:
            terminalreporter.write_line(finding)
        terminalreporter.write_line(f"{len(self.findings)} documents differ from their history")

    def _judge(self, test: str) -> None:
        from pymongo import MongoClient

        client: MongoClient[Any]
        with MongoClient("localhost", 27017) as client:
            rows: Any = client[HISTORY_DATABASE]["document_history"]
            for collection, ids in self._recorded(rows).items():
                database, _, name = collection.partition(".")
                if name not in client[database].list_collection_names():
                    continue  # dropped as a whole, past every collection method
                for document_id in ids:
                    self._compare(client, rows, collection, document_id, test)
            client.drop_database(HISTORY_DATABASE)

    def _recorded(self, rows: Any) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = defaultdict(list)
        versions = {"$match": {"collection": {"$exists": True}}}  # and no tombstones
        grouped = rows.aggregate([versions, {"$group": {"_id": {"c": "$collection", "d": "$document_id"}}}])
        for group in grouped:
            found[group["_id"]["c"]].append(group["_id"].get("d"))
        return found

    def _compare(self, client: Any, rows: Any, collection: str, document_id: Any, test: str) -> None:
        from bson.raw_bson import RawBSONDocument

        from django_mongo_history.core import order
        from django_mongo_history.core.model import DocumentKey, Operation
        from django_mongo_history.core.replay import Replay
        from django_mongo_history.storage.mongo import MongoStore

        store, key = MongoStore(rows), DocumentKey(collection, document_id)
        entries = order.arrange(store.entries(key))
        self.versions += len(entries)
        self.documents += 1
        others = frozenset(entry.id for entry in entries if entry.operation is not Operation.UPDATE)
        replay = Replay(
            key,
            entries,
            snapshots=lambda: others | store.snapshots(collection, [document_id]),
            fetch=store.records,
        )
        state = replay.after(len(entries) - 1)
        database, _, name = collection.partition(".")
        options = rows.codec_options.with_options(document_class=RawBSONDocument)
        live = (
            client[database]
            .get_collection(name, codec_options=options)
            .find_one({"_id": {"$eq": document_id}})
        )
        if state != (None if live is None else bytes(live.raw)):
            self.findings.append(f"{test}: {collection} {document_id!r}: {len(entries)} versions")
