"""One suite for the port `Store`, run against every implementation of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import mongomock
import pytest
from bson import Binary, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex
from bson.timestamp import Timestamp
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import ExecutionTimeout

from django_mongo_history.core import diff, values
from django_mongo_history.core.model import (
    Context,
    DocumentKey,
    Entry,
    Operation,
    RequestRef,
    UserRef,
    VersionRecord,
)
from django_mongo_history.core.replay import Unreadable
from django_mongo_history.core.tombstones import Tombstone
from django_mongo_history.errors import BrokenChainError, StoreError
from django_mongo_history.storage import rows
from django_mongo_history.storage import tombstones as tombstone_rows
from django_mongo_history.storage.base import Query, Store
from django_mongo_history.storage.foreign import ForeignStore
from django_mongo_history.storage.indexes import INDEXES
from django_mongo_history.storage.joined import JoinedStore
from django_mongo_history.storage.memory import MemoryStore
from django_mongo_history.storage.mongo import MongoStore
from django_mongo_history.storage.mongomock import MongomockStore
from django_mongo_history.storage.outbox import Outbox
from tests.naming import stable

START = datetime(2026, 2, 8, 23, 3, tzinfo=UTC)
OPERATOR = {"$gt": ""}
"""What a query would become if input could be an operator: everything."""


@pytest.fixture
def collection(mongodb_client: MongoClient[Any]) -> Iterator[Collection[Any]]:
    """An empty collection of the replica set."""
    database = mongodb_client[f"test_{ObjectId()}"]
    yield database["document_history"]
    mongodb_client.drop_database(database.name)


class OnTheirWay(JoinedStore):
    """Of every three versions one waits in the outbox, one is stored, and one is being moved, so that it is in both."""

    def append(self, records: Sequence[VersionRecord], *, session: Any = None) -> None:
        for record in records:
            place = record.id.binary[-1] % 3
            if place != 0:
                self.outbox.append([record], session=session)
            if place != 1:
                self.store.append([record], session=session)


@pytest.fixture(params=["memory", "mongo", "mongo without indexes", "foreign", "mongomock", "joined"])
def store(request: pytest.FixtureRequest) -> Store:
    """An empty store of each kind."""
    if request.param == "memory":
        return MemoryStore()
    if request.param == "joined":
        there = request.getfixturevalue("collection")
        waiting = Outbox(there.database["document_history_outbox"])
        joined = OnTheirWay(MongoStore(there), waiting, shares_sessions=True)
        joined.prepare()
        return joined
    if request.param == "mongomock":
        return MongomockStore(mongomock.MongoClient()["db"]["document_history"])
    made = (ForeignStore if request.param == "foreign" else MongoStore)(request.getfixturevalue("collection"))
    if request.param != "mongo without indexes":
        made.prepare()
    return made


@pytest.fixture(params=["mongo", "mongomock"])
def place(request: pytest.FixtureRequest) -> Any:
    """The collection below a store that has one."""
    if request.param == "mongomock":
        return mongomock.MongoClient()["db"]["document_history"]
    return request.getfixturevalue("collection")


def open_store(place: Any) -> MongoStore:
    return MongoStore(place) if isinstance(place, Collection) else MongomockStore(place)


def version(number: int = 0, **fields: Any) -> VersionRecord:
    """A version of document 1 of db.a, one minute after another."""
    stored: dict[str, Any] = {
        "id": ObjectId(),
        "collection": "db.a",
        "document_id": 1,
        "order": Timestamp(1000 + number, 1),
        "operation": Operation.UPDATE,
        "at": START + timedelta(minutes=number),
        "before": values.digest(b"%d" % number),
        "after": values.digest(b"%d" % (number + 1)),
        "document_class": "A",
        "changeset": ObjectId(),
    }
    return VersionRecord(**(stored | fields))


def entry_of(record: VersionRecord) -> Entry:
    return Entry(
        record.id, record.document_id, record.order, record.operation, record.at, record.before, record.after
    )


def full() -> VersionRecord:
    """A version with something in every field."""
    before, after = {"b": 1, "a": {"x": 1}}, {"a": {"x": 1.0}, "b": 1, "new": Int64(2)}
    found = diff.diff_images(values.encode(before), values.encode(after))
    return version(
        patch=found.patch,
        key_order=found.key_order,
        snapshot=values.encode(after),
        changed=("a", "a.x", "new"),
        hidden_changed=("secret",),
        policy='[[],[["secret"]]]',
        revert_of=ObjectId(),
        source={"format": "old", "row": 5},
        context=Context(
            UserRef(7, "ann", "auth.user"),
            "2001:db8::1",
            "why",
            {"ticket": "OPS-12"},
            RequestRef("r", "GET", "/x"),
        ),
    )


# -- append and read back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [version(), full()], ids=["bare", "full"])
def test_a_version_comes_back_as_it_was_stored(store: Store, record: VersionRecord) -> None:
    """Every field, to the byte."""
    store.append([record])
    assert store.records([record.id]) == {record.id: record}


def test_a_version_stored_twice_is_there_once(store: Store) -> None:
    """Alone and among others, within one call and by a second one: retries do no harm."""
    one, other = version(0), version(1)
    store.append([one])
    store.append([one])
    store.append([one, other, other])
    assert sorted(entry.id for entry in store.entries(one.key)) == sorted([one.id, other.id])


def test_a_version_that_is_there_stays_as_it_is(store: Store) -> None:
    """The first one stored is the truth."""
    record = version()
    store.append([record])
    store.append([record._replace(document_class="Other")])
    assert store.records([record.id])[record.id] == record


def test_nothing_can_be_stored(store: Store) -> None:
    """An empty call is no error: writes of untracked fields make no versions."""
    store.append([])
    assert list(store.find(Query())) == []


def test_entries_are_of_one_document(store: Store) -> None:
    """Its own versions, of its own collection, and what order needs of them."""
    mine = [version(number) for number in range(3)]
    store.append([*mine, version(0, document_id=2), version(0, collection="db.b")])
    assert sorted(store.entries(mine[0].key), key=lambda entry: entry.id) == [entry_of(one) for one in mine]


def test_a_document_without_versions_has_no_entries(store: Store) -> None:
    """Not an error."""
    assert store.entries(DocumentKey("db.a", 1)) == []


def test_records_that_are_not_there_are_left_out(store: Store) -> None:
    """Whoever asks sees which are missing."""
    record = version()
    store.append([record])
    assert set(store.records([record.id, ObjectId()])) == {record.id}


def test_a_create_and_a_delete_have_one_side(store: Store) -> None:
    """No digest where there was no document."""
    create = version(0, operation=Operation.CREATE, before=None)
    delete = version(1, operation=Operation.DELETE, after=None)
    store.append([create, delete])
    assert {entry.id: (entry.before is None, entry.after is None) for entry in store.entries(create.key)} == {
        create.id: (True, False),
        delete.id: (False, True),
    }


IDS: list[Any] = [
    MinKey(), None, -5, 0.5, 1, Int64(2**60), Decimal128("1E+30"), "", "a", "é", {}, {"a": 1}, {"a": "x", "b": [1]},
    b"", Binary(b"u", 0x80), b"bytes", Binary(b"0123456789abcdef", 4), ObjectId("65f000000000000000000001"), False,
    True, datetime(1831, 5, 1, tzinfo=UTC), START, Timestamp(1, 2), MaxKey(),
]  # fmt: skip
"""Ids of every type that MongoDB takes, in its order."""


@pytest.mark.parametrize("document_id", IDS, ids=repr)
def test_a_document_of_any_id_is_found(store: Store, document_id: Any) -> None:
    """By entries, snapshots, scan and find; and the id comes back exactly."""
    record = version(document_id=document_id, snapshot=values.encode({"a": 1}))
    store.append([record, *(version(document_id=one) for one in IDS if not values.same(one, document_id))])
    assert [entry.id for entry in store.entries(record.key)] == [record.id]
    assert store.snapshots("db.a", [document_id]) == {record.id}
    assert list(store.find(Query(document_id=document_id))) == [record]
    assert [entry_of(record)] == [entry for entry in store.scan("db.a") if entry.id == record.id]


def test_numbers_are_one_id_whatever_their_type(store: Store) -> None:
    """MongoDB holds one document of `_id` 1, 1.0 and Int64(1): so it has one history."""
    records = [
        version(number, document_id=one) for number, one in enumerate((1, 1.0, Int64(1), Decimal128("1")))
    ]
    store.append(records)
    assert len(store.entries(DocumentKey("db.a", 1))) == 4


# -- scan ---------------------------------------------------------------------------------------------------------------


def scanned(store: Store, **bounds: Any) -> list[Any]:
    return [entry.document_id for entry in store.scan("db.a", **bounds)]


def test_a_scan_walks_ids_in_the_order_of_bson(store: Store) -> None:
    """Ids of all types ascend as MongoDB compares them, versions of one document stay together."""
    records = [version(number, document_id=one) for one in IDS for number in range(2)]
    random.Random(1).shuffle(records)
    store.append([*records, version(collection="db.b")])
    found = scanned(store)
    assert list(map(values.encode_value, found)) == [
        values.encode_value(one) for one in IDS for _ in range(2)
    ]


@pytest.mark.parametrize(("low", "high"), [(0, 5), (3, 4), (6, 20), (12, len(IDS) - 1)])
def test_a_scan_has_bounds_across_types(store: Store, low: int, high: int) -> None:
    """`above` is exclusive, `upto` inclusive; both hold for ids of other types than their own."""
    store.append([version(document_id=one) for one in IDS])
    found = scanned(store, above=IDS[low], upto=IDS[high])
    assert list(map(values.encode_value, found)) == list(map(values.encode_value, IDS[low + 1 : high + 1]))


def test_a_scan_may_have_one_bound(store: Store) -> None:
    """None is an id like others, and not the absence of a bound."""
    store.append([version(document_id=one) for one in (None, 1, "a")])
    assert (scanned(store, above=None), scanned(store, upto=None)) == ([1, "a"], [None])


# -- snapshots ----------------------------------------------------------------------------------------------------------


def test_snapshots_are_of_the_documents_asked_for(store: Store) -> None:
    """The ids of versions that hold one, of these documents in this collection."""
    whole = values.encode({"a": 1})
    one, two = version(0, snapshot=whole), version(1, document_id=2, snapshot=whole)
    store.append(
        [
            one,
            two,
            version(2),
            version(3, document_id=3, snapshot=whole),
            version(4, collection="db.b", snapshot=whole),
        ]
    )
    assert store.snapshots("db.a", [1, 2, 99]) == {one.id, two.id}


def test_no_documents_have_no_snapshots(store: Store) -> None:
    """An empty question has an empty answer."""
    assert store.snapshots("db.a", []) == frozenset()


# -- large versions -----------------------------------------------------------------------------------------------------

LARGE = rows.LARGEST_ROW


@pytest.mark.parametrize("size", [LARGE - 5000, LARGE + 10, 2 * LARGE + 10])
def test_a_large_version_comes_back_whole(store: Store, size: int) -> None:
    """Two images near MongoDB's limit do not fit one document: what is larger than 8 MB is kept in parts."""
    big = "x" * (size // 2)
    patch = diff.diff_images(values.encode({"a": big}), values.encode({"a": "y" + big})).patch
    record = version(patch=patch, snapshot=values.encode({"a": "y" + big}), key_order=[[[], None, ["a"]]])
    store.append([record])
    store.append([record])
    assert store.records([record.id])[record.id] == record
    assert list(store.find(Query())) == [record]
    assert store.snapshots("db.a", [1]) == {record.id}
    assert [entry.id for entry in store.scan("db.a")] == [record.id]


# -- find -----------------------------------------------------------------------------------------------------------------


CHANGESET = ObjectId()
ANN = Context(UserRef(7, "ann", "auth.user"))
BOB = Context(UserRef("8", "bob", "auth.user"))
ROBOT = Context(UserRef("ann", "robot", "robots.robot"))
FOUND = [
    version(0, operation=Operation.CREATE, before=None, context=ANN, changeset=CHANGESET, changed=("x",)),
    version(1, context=BOB, changed=("a", "a.b")),
    version(2, context=ROBOT, document_class="A.B", changed=("a",)),
    version(3, collection="db.b", document_class="B", context=ANN, changeset=CHANGESET),
    version(4, operation=Operation.DELETE, after=None, document_id=2),
    version(5, context=Context(reason="why")),
]
"""Versions of which each condition finds some and not others."""


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"collections": ("db.b",)}, [3]),
        ({"collections": ("db.a", "db.b")}, [0, 1, 2, 3, 4, 5]),
        ({"collections": ()}, []),
        ({"document_id": 2}, [4]),
        ({"classes": ("A", "B")}, [0, 1, 3, 4, 5]),
        ({"classes": ("A.B",)}, [2]),
        ({"changeset": CHANGESET}, [0, 3]),
        ({"changesets": (CHANGESET, FOUND[4].changeset)}, [0, 3, 4]),
        ({"changesets": (CHANGESET,), "changeset": FOUND[4].changeset}, []),
        ({"changesets": ()}, []),
        ({"ids": (FOUND[2].id, FOUND[5].id, CHANGESET)}, [2, 5]),
        ({"ids": (FOUND[2].id, FOUND[4].id), "operation": Operation.DELETE}, [4]),
        ({"ids": ()}, []),
        ({"operation": Operation.DELETE}, [4]),
        ({"after": START + timedelta(minutes=1)}, [2, 3, 4, 5]),
        ({"before": START + timedelta(minutes=1)}, [0]),
        ({"after": START, "before": START + timedelta(minutes=3)}, [1, 2]),
        ({"touching": ("a",)}, [1, 2]),
        ({"touching": ("a.b", "x")}, [0, 1]),
        ({"touching": ("a.b.c",)}, []),
        ({"user": UserRef(7)}, [0, 3]),
        ({"user": UserRef(7.0)}, [0, 3]),
        ({"user": UserRef("7")}, []),
        ({"user": UserRef("8")}, [1]),
        ({"user": UserRef("ann")}, [0, 2, 3]),
        ({"user": UserRef("ann", model="robots.robot")}, [2]),
        ({"user": UserRef("ann", model="auth.user")}, []),
        ({"user": UserRef(7, model="auth.user"), "collections": ("db.b",), "changeset": CHANGESET}, [3]),
        ({"user": UserRef(True)}, []),
        ({"reason": "why"}, [5]),
        ({"reason": "wh"}, []),
        ({"reason_part": "WH"}, [5]),
        ({"reason_part": "w.y"}, []),
        ({"reason_part": "hy", "reason": "why"}, [5]),
        ({"document_ids": (2, "x")}, [4]),
        ({"document_ids": (2.0, 1), "operation": Operation.DELETE}, [4]),
        ({"document_ids": ()}, []),
        ({"document_ids": (1,), "document_id": 2}, []),
        ({"user_keys": (7, "8")}, [0, 1, 3]),
        ({"user_keys": (7.0,)}, [0, 3]),
        ({"user_keys": ("8",), "user": UserRef(7)}, []),
        ({"user_keys": ()}, []),
        ({"user_label": "ann"}, [0, 3]),
        ({"user_label": "ANN"}, []),
        ({"remote_addr": "192.0.2.7"}, []),
        ({"limit": 2}, [0, 1]),
        ({"limit": 2, "after": START}, [1, 2]),
        ({"past": (START + timedelta(minutes=1), FOUND[1].id)}, [2, 3, 4, 5]),
        ({"past": (START + timedelta(minutes=1), FOUND[1].id), "before": START + timedelta(minutes=3)}, [2]),
        ({"past": (START, FOUND[0].id), "after": START + timedelta(minutes=2), "limit": 1}, [3]),
        ({"max_time_s": 5.0, "operation": Operation.DELETE}, [4]),
    ],
    ids=stable,
)
def test_find_by_condition(store: Store, conditions: dict[str, Any], expected: list[int]) -> None:
    """All conditions hold together; bounds are exclusive; a user is matched by key, of a text by label too."""
    store.append(FOUND)
    found = list(store.find(Query(**conditions)))
    assert [FOUND.index(record) for record in found] == expected
    assert [tuple(mark) for mark in store.marks(Query(**conditions))] == [
        (record.at, record.id, record.changeset) for record in found
    ]


@pytest.mark.parametrize("newest_first", [False, True])
def test_pages_follow_each_other_without_a_gap(store: Store, newest_first: bool) -> None:
    """Behind each page's last version comes the next, whether moments are shared or not."""
    records = [version(number // 4) for number in range(11)]
    store.append(records[::-1])
    query = Query(newest_first=newest_first, limit=3, after=START - timedelta(minutes=1))
    found: list[VersionRecord] = []
    while page := list(store.find(query)):
        assert len(page) <= 3
        found += page
        query = replace(query, past=(page[-1].at, page[-1].id))
    assert found == (records[::-1] if newest_first else records)


def test_heads_say_what_was_done_to_which_document(store: Store) -> None:
    """The same versions in the same order, by every condition, without what they hold."""
    store.append(FOUND)
    for query in (Query(), Query(newest_first=True, limit=4), Query(classes=("A.B", "B"))):
        expected = [
            (one.at, one.id, one.operation, one.collection, one.document_class, one.document_id)
            for one in store.find(query)
        ]
        assert [tuple(head) for head in store.heads(query)] == expected
        assert expected


def test_collections_are_those_of_versions(store: Store) -> None:
    """Each namespace once; that of a tombstone alone, which is no version, is not among them."""
    store.append(FOUND)
    store.append_tombstone(tombstone(collection="db.dropped"))
    assert store.collections() == ["db.a", "db.b"]


def test_a_search_that_takes_too_long_is_ended(collection: Collection[Any]) -> None:
    """By the server, with the driver's own error."""
    store = MongoStore(collection)
    store.append(FOUND)
    admin = collection.database.client.admin
    admin.command("configureFailPoint", "maxTimeAlwaysTimeOut", mode="alwaysOn")
    try:
        with pytest.raises(ExecutionTimeout):
            list(store.find(Query(max_time_s=5.0)))
        assert list(store.find(Query())) == FOUND
    finally:
        admin.command("configureFailPoint", "maxTimeAlwaysTimeOut", mode="off")


def test_summaries_are_of_the_changesets_asked_for(store: Store) -> None:
    """The context of the first version, the moments of the first and the last, and how many of which class."""
    store.append(FOUND[::-1])
    large = version(6, changeset=FOUND[5].changeset, snapshot=values.encode({"a": "x" * 9_000_000}))
    store.append([large])
    found = {one.changeset: one for one in store.summaries([CHANGESET, FOUND[5].changeset, ObjectId()])}
    assert set(found) == {CHANGESET, FOUND[5].changeset}
    one = found[CHANGESET]
    assert (one.first, one.last_at) == ((FOUND[0].at, FOUND[0].id), FOUND[3].at)
    assert one.context == ANN
    assert dict(one.counts) == {("db.a", "A"): 1, ("db.b", "B"): 1}
    other = found[FOUND[5].changeset]
    assert (other.context.reason, dict(other.counts), other.last_at) == ("why", {("db.a", "A"): 2}, large.at)


def test_the_first_version_of_a_summary_is_by_moment_and_id(store: Store) -> None:
    """Whichever was stored first, and whoever made it."""
    records = [
        version(0, changeset=CHANGESET, context=Context(reason=str(number)), document_id=number)
        for number in range(5)
    ]
    store.append([records[number] for number in (3, 1, 4, 0, 2)])
    assert [one.context.reason for one in store.summaries([CHANGESET])] == ["0"]
    assert store.summaries([]) == []


@pytest.mark.parametrize("newest_first", [False, True])
def test_marks_are_sorted_as_versions_are(store: Store, newest_first: bool) -> None:
    """By moment and id, in both directions."""
    store.append([version(number // 2) for number in range(6)][::-1])
    query = Query(newest_first=newest_first)
    assert [mark.id for mark in store.marks(query)] == [record.id for record in store.find(query)]


@pytest.mark.parametrize("newest_first", [False, True])
def test_found_versions_are_sorted_by_moment_and_id(store: Store, newest_first: bool) -> None:
    """A moment that is shared goes by id."""
    records = [version(number // 2) for number in range(6)]
    store.append(records[::-1])
    found = list(store.find(Query(newest_first=newest_first)))
    assert found == (records[::-1] if newest_first else records)


@pytest.mark.parametrize(
    "query",
    [
        Query(user=UserRef(OPERATOR)),
        Query(user=UserRef(OPERATOR, model="auth.user")),
        Query(user=UserRef(7, model=OPERATOR)),  # type: ignore[arg-type]
        Query(changeset={"$exists": True}),  # type: ignore[arg-type]
        Query(document_id=OPERATOR),
        Query(document_id={"$exists": True}),
        Query(document_ids=(OPERATOR, Regex("."))),
        Query(user_keys=(OPERATOR, Regex("."))),
        Query(user_label=OPERATOR),  # type: ignore[arg-type]
        Query(remote_addr=OPERATOR),  # type: ignore[arg-type]
        Query(reason_part=".*"),
    ],
    ids=repr,
)
def test_input_never_becomes_an_operator(store: Store, query: Query) -> None:
    """What looks like one is a value, and nothing has it."""
    store.append(FOUND)
    assert list(store.find(query)) == []


def test_a_document_id_that_looks_like_an_operator_is_a_value(store: Store) -> None:
    """Entries and snapshots of it are those of a document with just that id."""
    store.append(FOUND)
    assert store.entries(DocumentKey("db.a", OPERATOR)) == []


def test_a_user_whose_key_looks_like_an_operator_is_found(store: Store) -> None:
    """As the value that it is."""
    record = version(context=Context(UserRef(OPERATOR)))
    store.append([*FOUND, record])
    assert list(store.find(Query(user=UserRef(OPERATOR)))) == [record]


def test_a_context_keeps_keys_that_look_like_operators(store: Store) -> None:
    """`extra` is the user's own: dollars, dots and empty keys stand in it as anywhere."""
    record = version(context=Context(extra={"$where": 1, "a.b": {"": 2}}))
    store.append([record])
    assert list(store.find(Query())) == [record]


# -- preparing -------------------------------------------------------------------------------------------------------------


def test_preparing_twice_does_nothing_the_second_time(place: Any) -> None:
    """The first call says what was missing, the second that nothing is."""
    store = open_store(place)
    names = [index.document["name"] for index in INDEXES]
    assert (store.missing(), store.prepare(), store.missing(), store.prepare()) == (names, names, [], [])


def test_a_store_need_not_be_prepared(place: Any) -> None:
    """Indexes make it fast, nothing more."""
    store, record = open_store(place), version()
    store.append([record])
    assert [entry.id for entry in store.entries(record.key)] == [record.id]


# -- rows that cannot be read ---------------------------------------------------------------------------------------------


def spoilt(place: Any, **changes: Any) -> tuple[MongoStore, VersionRecord, VersionRecord]:
    """A store with one good version and one whose row somebody has changed; None takes a field away."""
    store, good, bad = open_store(place), version(0), full()
    store.append([good, bad])
    gone = {name: "" for name, value in changes.items() if value is None}
    update = {
        "$set": {name: value for name, value in changes.items() if value is not None},
        "$unset": gone,
    }
    place.update_one({"_id": bad.id}, {operator: edits for operator, edits in update.items() if edits})
    return store, good, bad


ODD: list[dict[str, Any]] = [
    {"format": 2}, {"format": None}, {"format": "1"}, {"context": 5}, {"context": {"user": 5}}, {"changed": 5},
    {"patch": {"p": 1}}, {"patch": 5}, {"snapshot": 5}, {"key_order": 5}, {"key_order": [5]},
    {"key_order": [["a", None, None]]}, {"key_order": [[[], 5, None]]}, {"operation": "merge"}, {"order": 5},
    {"at": "yesterday"}, {"before": "x"}, {"after": 5}, {"collection": 5}, {"document_class": None},
    {"document_id": None}, {"parts": "many"}, {"parts": 2}, {"parts": 10**9}, {"parts": 2, "payload": b"garbage"},
    {"parts": 1, "payload": b"\x09\x00\x00\x00\x02ab\x00\x00"}, {"parts": 1, "payload": 5},
]  # fmt: skip


@pytest.mark.parametrize("changes", ODD, ids=repr)
def test_a_row_that_cannot_be_read_says_so(place: Any, changes: dict[str, Any]) -> None:
    """Unknown format, broken fields, missing parts: `Unreadable` with the reason, and the others stay readable."""
    store, good, bad = spoilt(place, **changes)
    found = store.records([good.id, bad.id])
    assert found[good.id] == good
    assert isinstance(found[bad.id], Unreadable)
    assert found[bad.id].id == bad.id


def test_finding_a_row_that_cannot_be_read_is_an_error_that_names_it(place: Any) -> None:
    """BrokenChainError with row and document; what lies before it was given."""
    store, good, bad = spoilt(place, format=2)
    found = store.find(Query(newest_first=bad.at < good.at or (bad.at == good.at and bad.id < good.id)))
    assert next(found) == good
    with pytest.raises(BrokenChainError, match="format is 2") as raised:
        next(found)
    assert (raised.value.version, raised.value.key) == (bad.id, bad.key)


@pytest.mark.parametrize("changes", [{"operation": "merge"}, {"order": 5}, {"at": "yesterday"}], ids=repr)
@pytest.mark.parametrize("is_scan", [False, True])
def test_a_row_that_has_no_place_is_an_error_that_names_it(
    place: Any, changes: dict[str, Any], is_scan: bool
) -> None:
    """Without order and links nobody knows where the version belongs, so its document's history cannot be told."""
    store, _good, bad = spoilt(place, **changes)
    with pytest.raises(BrokenChainError) as raised:
        list(store.scan("db.a") if is_scan else store.entries(bad.key))
    assert raised.value.version == bad.id


@pytest.mark.parametrize("number", [2, 3])
def test_a_version_whose_part_is_missing_says_so(place: Any, number: int) -> None:
    """The first part knows how many there are."""
    store, record = open_store(place), version(snapshot=values.encode({"a": "x" * (2 * LARGE + 10)}))
    store.append([record])
    place.delete_one({"_id": {"version": record.id, "part": number}})
    found = store.records([record.id])[record.id]
    assert isinstance(found, Unreadable)
    assert "parts are missing" in found.reason


def test_until_the_first_part_is_there_none_is(collection: Collection[Any]) -> None:
    """A version whose parts did not all arrive is not there, and can be stored again."""
    store, record = MongoStore(collection), version(snapshot=values.encode({"a": "x" * (LARGE + 10)}))
    collection.insert_one({"_id": {"version": record.id, "part": 2}, "payload": b""})
    collection.delete_many({})
    store.append([record])
    written = [row["_id"] for row in collection.find({}, {"_id": 1}).sort("$natural", 1)]
    assert written == [{"version": record.id, "part": 2}, record.id]


# -- MongoDB only -----------------------------------------------------------------------------------------------------------


def test_a_store_that_cannot_store_says_so(collection: Collection[Any]) -> None:
    """StoreError with the driver's error as its cause."""
    collection.database.create_collection(collection.name, validator={"never": {"$exists": True}})
    for records in ([version()], [version(), version()]):
        with pytest.raises(StoreError, match="could not be stored") as raised:
            MongoStore(collection).append(records)
        assert raised.value.__cause__ is not None


def test_a_version_in_a_transaction_goes_with_it(collection: Collection[Any]) -> None:
    """An aborted transaction leaves no version, large ones included."""
    store = MongoStore(collection)
    store.prepare()
    records = [version(), version(snapshot=values.encode({"a": "x" * (LARGE + 10)}))]
    with collection.database.client.start_session() as session:
        session.start_transaction()
        store.append(records, session=session)
        session.abort_transaction()
    assert collection.count_documents({}) == 0


def plan(found: Any) -> list[str]:
    """The stages of the winning plan, from the outermost in."""
    waiting, names = [found.explain()["queryPlanner"]["winningPlan"]], []
    for stage in waiting:
        names.append(stage["stage"] + (f" {stage['indexName']}" if "indexName" in stage else ""))
        waiting.extend(one for one in (stage.get("inputStage"), *stage.get("inputStages", ())) if one)
    return names


class Watched:
    """A collection that keeps the cursors that it gives out."""

    def __init__(self, collection: Any, cursors: list[Any]) -> None:
        self._collection = collection
        self._cursors = cursors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    def find(self, *args: Any, **options: Any) -> Any:
        cursor = self._collection.find(*args, **options)
        self._cursors.append(cursor)
        return cursor


@pytest.fixture(scope="module")
def busy(mongodb_client: MongoClient[Any]) -> Iterator[MongoStore]:
    """A few thousand versions of many documents, users and changesets."""
    database = mongodb_client[f"test_{ObjectId()}"]
    store = MongoStore(database["document_history"])
    store.prepare()
    whole = values.encode({"a": 1})
    store.append(
        [
            version(
                number,
                document_id=number % 500,
                collection=f"db.{'abc'[number % 3]}",
                snapshot=whole if number % 20 == 0 else None,
                context=Context(UserRef(number % 50, f"user {number % 50}", "auth.user")),
                changed=(f"field{number % 40}",),
            )
            for number in range(3000)
        ]
    )
    yield store
    mongodb_client.drop_database(database.name)


Read = Callable[[MongoStore], Any]


def plans(store: MongoStore, read: Read) -> list[str]:
    """The stages of the plan by which the server answers what the store asks first."""
    cursors: list[Any] = []
    watched = MongoStore(store._exact)
    watched._rows = Watched(store._rows, cursors)  # type: ignore[assignment]
    watched._exact = Watched(store._exact, cursors)  # type: ignore[assignment]
    list(read(watched))
    return plan(cursors[0])


@pytest.mark.parametrize(
    ("read", "index"),
    [
        (lambda store: store.entries(DocumentKey("db.a", 7)), "links"),
        (lambda store: store.scan("db.a"), "links"),
        (lambda store: store.scan("db.a", above=5, upto=50), "links"),
    ],
    ids=["entries", "scan", "scan with bounds"],
)
def test_order_is_read_from_the_index_alone(busy: MongoStore, read: Read, index: str) -> None:
    """Entries and scans fetch no row: patches and snapshots may be large."""
    stages = plans(busy, read)
    assert f"IXSCAN {index}" in stages
    assert not {"FETCH", "COLLSCAN", "SORT"} & set(stages)


LATE = START + timedelta(minutes=2990)
PLACE = (START + timedelta(minutes=1500), ObjectId())
MARKS = [f"marks {name}" for name in ("changeset", "changesets", "newest", "class", "user", "reason", "all")]


@pytest.mark.parametrize(
    ("read", "index"),
    [
        (
            lambda store: store.find(
                Query(collections=("db.a", "db.b"), operation=Operation.DELETE, newest_first=True, limit=5)
            ),
            "collection_operation_at",
        ),
        (
            lambda store: store.find(Query(collections=("db.a",), operation=Operation.DELETE, past=PLACE)),
            "collection_operation_at",
        ),
        (lambda store: store.heads(Query(newest_first=True, limit=50)), "at"),
        (lambda store: store.find(Query(collections=("db.a", "db.b"), document_ids=(7, "7"))), "links"),
        (lambda store: store.snapshots("db.a", [0, 60, 120]), "snapshots"),
        (lambda store: store.find(Query(collections=("db.a",))), "collection_at"),
        (lambda store: store.find(Query(collections=("db.a",), newest_first=True)), "collection_at"),
        (lambda store: store.find(Query(after=START + timedelta(minutes=2990))), "at"),
        (lambda store: store.find(Query(user=UserRef(7, model="auth.user"))), "user_at"),
        (lambda store: store.find(Query(user=UserRef(7))), "user_at"),
        (lambda store: store.find(Query(changeset=CHANGESET)), "changeset"),
        (lambda store: store.marks(Query(changeset=CHANGESET)), "changeset"),
        (lambda store: store.marks(Query(changesets=(CHANGESET, ObjectId()), before=LATE)), "changeset"),
        (lambda store: store.marks(Query(collections=("db.a",), newest_first=True)), "collection_at"),
        (lambda store: store.marks(Query(collections=("db.a",), classes=("A",))), "collection_at"),
        (lambda store: store.marks(Query(user=UserRef(7))), "user_at"),
        (lambda store: store.marks(Query(reason="why", newest_first=True)), "at"),
        (lambda store: store.marks(Query()), "at"),
        (
            lambda store: store.find(Query(collections=("db.a",), touching=("field4",))),
            "collection_changed_at",
        ),
    ],
    ids=[
        "operation",
        "delete of a class",
        "heads",
        "ids",
        "snapshots",
        "collection",
        "newest",
        "since",
        "user",
        "user's key",
        "changeset",
        *MARKS,
        "touching",
    ],
)
def test_each_question_has_its_index(busy: MongoStore, read: Read, index: str) -> None:
    """No question walks the whole collection."""
    stages = plans(busy, read)
    assert f"IXSCAN {index}" in stages
    assert "COLLSCAN" not in stages


@pytest.mark.parametrize(
    "query",
    [Query(), Query(reason="why"), Query(collections=("db.a",), classes=("A",)), Query(user=UserRef(7))],
    ids=["all", "reason", "class", "user"],
)
def test_marks_are_streamed_in_the_order_of_an_index(busy: MongoStore, query: Query) -> None:
    """Nothing is sorted, so the first mark is there at once, however many follow."""
    for newest_first in (False, True):
        stages = plans(
            busy, lambda store, first=newest_first: store.marks(replace(query, newest_first=first))
        )
        assert not {"SORT", "COLLSCAN"} & set(stages)


def test_the_order_of_ids_is_the_servers(collection: Collection[Any]) -> None:
    """`sort_key`, by which stores without a server put ids in order, compares as the server does."""
    parts: list[Any] = [
        None,
        0,
        -1.5,
        float("nan"),
        "a",
        "",
        b"x",
        True,
        START,
        {"a": 1},
        {"a": "b"},
        {"b": 0},
        {},
    ]
    ids = [*IDS, *({"x": one, "y": other} for one, other in product(parts, parts))]
    collection.insert_many([{"_id": ObjectId(), "v": one} for one in ids])
    found = [row["v"] for row in collection.with_options(codec_options=values.EXACT).find().sort("v", 1)]
    keys = [values.sort_key(one) for one in found]
    assert keys == sorted(keys)


# -- tombstones ---------------------------------------------------------------------------------------------------------


def tombstone(number: int = 0, **fields: Any) -> Tombstone:
    """A drop of db.a, one minute after another."""
    stored: dict[str, Any] = {
        "id": ObjectId(),
        "collection": "db.a",
        "order": Timestamp(1000 + number, 1),
        "at": START + timedelta(minutes=number),
        "document_class": "A",
        "changeset": ObjectId(),
    }
    return Tombstone(**(stored | fields))


def full_tombstone() -> Tombstone:
    context = Context(UserRef(7, "ann", "auth.user"), "::1", "why", {"a": 1}, RequestRef("r", "GET", "/x"))
    return tombstone(context=context, uuid=b"u" * 16, documents=3)


@pytest.mark.parametrize("one", [tombstone(), full_tombstone()], ids=["bare", "full"])
def test_a_tombstone_comes_back_as_it_was_stored(store: Store, one: Tombstone) -> None:
    """Every field; and stored twice it is there once."""
    store.append_tombstone(one)
    store.append_tombstone(one)
    assert store.tombstones(Query()) == [one]


def test_tombstones_by_condition(store: Store) -> None:
    """Of collections by their whole name, in the order of their moments, exclusive bounds; by changeset and user."""
    ann = Context(UserRef(7, "ann", "auth.user"))
    first, second = tombstone(1, context=ann), tombstone(2)
    other, longer = tombstone(0, collection="db.b"), tombstone(3, collection="db.a.b")
    for one in (longer, second, other, first):
        store.append_tombstone(one)
    asked: dict[str, list[Tombstone]] = {
        "all": store.tombstones(Query()),
        "newest first": store.tombstones(Query(newest_first=True)),
        "collection": store.tombstones(Query(collections=("db.a",))),
        "collections": store.tombstones(Query(collections=("db.b", "db.a.b"))),
        "no collection": store.tombstones(Query(collections=())),
        "between": store.tombstones(Query(after=other.at, before=longer.at)),
        "changeset": store.tombstones(Query(changeset=second.changeset)),
        "user": store.tombstones(Query(user=UserRef(7, "", "auth.user"))),
        "label": store.tombstones(Query(user=UserRef("ann"))),
        "another model": store.tombstones(Query(user=UserRef(7, "", "shop.user"))),
        "delete": store.tombstones(Query(operation=Operation.DELETE)),
        "update": store.tombstones(Query(operation=Operation.UPDATE)),
        "touching": store.tombstones(Query(touching=("a",))),
        "class and document": store.tombstones(
            Query(classes=("B",), document_id=1, changeset=first.changeset)
        ),
    }
    assert asked == {
        "all": [other, first, second, longer],
        "newest first": [longer, second, first, other],
        "collection": [first, second],
        "collections": [other, longer],
        "no collection": [],
        "between": [first, second],
        "changeset": [second],
        "user": [first],
        "label": [first],
        "another model": [],
        "delete": [other, first, second, longer],
        "update": [],
        "touching": [],
        "class and document": [first],
    }


def test_no_search_for_versions_finds_a_tombstone(store: Store) -> None:
    """By document, collection, moment, changeset or id: it is no version of anything; nor are versions tombstones."""
    one, record = full_tombstone(), full()
    record = record._replace(changeset=one.changeset)
    store.append_tombstone(one)
    store.append([record])
    assert store.entries(DocumentKey("db.a", None)) == []
    assert list(store.entries_of("db.a", [None, 1])) == [entry_of(record)]
    assert list(store.scan("db.a")) == [entry_of(record)]
    assert list(store.scan("db.a", above=MinKey(), upto=MaxKey())) == [entry_of(record)]
    assert store.snapshots("db.a", [None]) == frozenset()
    assert store.records([one.id]) == {}
    for query in (
        Query(),
        Query(newest_first=True),
        Query(changeset=one.changeset),
        Query(user=UserRef(7, "ann", "auth.user")),
        Query(after=START - timedelta(days=1)),
    ):
        assert list(store.find(query)) == [record]
    assert store.tombstones(Query()) == [one]


def test_tombstones_are_found_among_parts_of_versions(store: Store) -> None:
    """Both have documents as ids; only one kind is asked for."""
    store.append([version(snapshot=values.encode({"x": "y" * (9 * 1024 * 1024)}))])
    one = tombstone()
    store.append_tombstone(one)
    assert store.tombstones(Query()) == [one]


def test_tombstones_are_found_by_the_index_of_ids(collection: Collection[Any]) -> None:
    """Without an index of their own, and without looking at a version."""
    store = MongoStore(collection)
    store.append([version(number) for number in range(50)])
    store.append_tombstone(tombstone())
    for query in (Query(), Query(collections=("db.a",)), Query(collections=("db.a", "db.b"))):
        explained = collection.find(tombstone_rows.ids(query)).explain()["executionStats"]
        assert (explained["nReturned"], explained["totalDocsExamined"]) == (1, 1)


def test_a_tombstone_that_cannot_be_read_is_told_and_left_out(
    place: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Documents stay readable without it."""
    store = open_store(place)
    good, bad = tombstone(0), tombstone(1)
    store.append_tombstone(good)
    store.append_tombstone(bad)
    wanted = {"dropped_at": bad.at}
    place.update_one(wanted, {"$set": {"order": "soon"}})
    assert store.tombstones(Query()) == [good]
    assert "expected Timestamp, found str" in caplog.text


def test_a_tombstone_that_cannot_be_stored(collection: Collection[Any]) -> None:
    """The error names the collection that was to be dropped and the store."""
    collection.database.create_collection(collection.name, validator={"never": {"$exists": True}})
    with pytest.raises(StoreError, match=r"db\.a is being dropped could not be stored"):
        MongoStore(collection).append_tombstone(tombstone())
