"""
Versions that arrive late, twice, in any order: the history is in the end as if none had been late, and whole meanwhile
for whoever can look into the outbox.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import mongoengine
import pytest
from bson import ObjectId
from django.utils import timezone
from mongoengine import fields
from pymongo.database import Database

from django_mongo_history import changeset, changesets, depots, history_of, runtime
from django_mongo_history.delivery import moving
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.storage.outbox import Packet
from management.servers import Standalone
from tests.conftest import CLIENT_OPTIONS
from tests.judge import RAW, configured, tracking

SEED = 20261122
DOCUMENTS = 6
WRITES = 500
Image = bytes | None


class Shuffled(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    write = fields.IntField()
    names = fields.ListField(fields.StringField())
    meta = {"collection": "shuffled"}


class Copies:
    """Writes documents, and keeps by whom each write was and what the server held after it."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.images: dict[int, list[Image]] = {number: [] for number in range(DOCUMENTS)}
        self.users: dict[int, list[str]] = {number: [] for number in range(DOCUMENTS)}
        self.count = 0

    def write(self) -> None:
        """One write of some document, by a user of its own."""
        number = self.dice.randrange(DOCUMENTS)
        one = Shuffled.objects(number=number)
        user = f"user {self.count}"
        last = self.images[number][-1] if self.images[number] else None
        with changeset(user=user):
            if last is None:
                Shuffled(number=number, write=self.count).save()
            elif self.dice.random() < 0.05:
                one.delete()
            elif self.dice.random() < 0.5:
                one.update(set__write=self.count)
            else:
                one.update(push__names=f"write {self.count}", set__write=self.count)
        self.count += 1
        self.images[number].append(image_of(number))
        self.users[number].append(user)

    def check(self, number: int) -> None:
        """The history of this document is all of that, and nothing else."""
        found = list(history_of(Shuffled, number))
        assert [version.operation == "external" for version in found] == [False] * len(found)
        assert [version.user.pk for version in found] == self.users[number]
        assert [version._chain.after(version.index) for version in found] == self.images[number]

    def check_all(self) -> None:
        for number in range(DOCUMENTS):
            self.check(number)


def image_of(number: int) -> Image:
    collection = mongoengine.get_db().get_collection("shuffled", codec_options=RAW)
    found = collection.find_one({"_id": number})
    return None if found is None else bytes(found.raw)


def the_depot() -> moving.Depot:
    (depot,) = depots.each()
    return depot


def taken_out(depot: moving.Depot) -> dict[ObjectId, Packet]:
    """All that waits, which does so no longer."""
    found = dict(depot.outbox.packets())
    depot.outbox.remove(found)
    return found


def rows_of(packets: Sequence[Packet]) -> list[bytes]:
    return [row for packet in packets for row in packet]


BOTH = pytest.mark.parametrize("waiting", ["beside the documents", "on another server"], indirect=True)


@pytest.fixture
def waiting(
    request: pytest.FixtureRequest, mongodb: Database[dict[str, Any]], standalone: Standalone
) -> Iterator[Copies]:
    """Versions in the outbox, which nobody moves on; they belong to this server or to another one, see `BOTH`."""
    settings: dict[str, Any] = {"DELIVERY": "outbox"}
    with ExitStack() as stack:
        if getattr(request, "param", "") == "on another server":
            settings["ALIAS"] = "versions"
            mongoengine.connect(mongodb.name, host=standalone.uri, alias="versions", **CLIENT_OPTIONS)
            stack.callback(lambda: standalone_dropped(standalone, mongodb.name))
        stack.enter_context(configured(**settings))
        runtime.current().environment.queues = unannounced()
        stack.enter_context(tracking(Shuffled))
        copies = Copies(random.Random(SEED))
        for _write in range(WRITES):
            copies.write()
        yield copies


def standalone_dropped(standalone: Standalone, name: str) -> None:
    with standalone.client() as client:
        client.drop_database(name)


def unannounced() -> Any:
    """The queues in force, of which no worker hears."""
    return replace(runtime.current().environment.queues, publisher=None)


def test_thousands_in_any_order_with_doubles(waiting: Copies) -> None:
    """
    Delivered in random order, some of them twice: at every moment readers give what they have, or say what they cannot
    know; in the end it is the recorded copies.
    """
    depot = the_depot()
    packets = taken_out(depot)
    store = depot.store_of(f"{mongoengine.get_db().name}.shuffled")
    for seed in range(4):
        dice = random.Random(seed)
        store._exact.delete_many({})
        arriving = list(packets.values()) + dice.choices(list(packets.values()), k=len(packets) // 2)
        dice.shuffle(arriving)
        while arriving:
            count = dice.randint(1, 200)
            some, arriving = arriving[:count], arriving[count:]
            assert moving.receive(depot, rows_of(some)) == []
            look(dice.randrange(DOCUMENTS), waiting)
        assert store._exact.count_documents({}) == waiting.count
        waiting.check_all()


def look(number: int, copies: Copies) -> None:
    """Readers raise nothing but what is documented, and show no version that nobody made."""
    found = list(history_of(Shuffled, number))
    own = [version for version in found if version.operation not in {"external", "baseline"}]
    users = [version.user.pk for version in own]
    assert len(set(users)) == len(users)
    assert set(users) <= set(copies.users[number])
    images = dict(zip(copies.users[number], copies.images[number], strict=True))
    for version in found:
        try:
            _seen = version.state, version.changes
            image = version._chain.after(version.index)
        except BrokenChainError:
            continue
        if version in own:
            assert image == images[version.user.pk], "a state that never was"
    list(history_of(Shuffled).versions())
    list(changesets())


@BOTH
def test_what_waits_is_history_already(waiting: Copies) -> None:
    """Nothing is stored yet, and readers have it all; a sweep changes nothing of what they see."""
    depot = the_depot()
    assert depot.outbox.waiting().count == waiting.count
    waiting.check_all()
    counts = moving.sweep(depot)
    assert (counts.stored, counts.refused, counts.dead) == (waiting.count, 0, 0)
    assert depot.outbox.waiting().count == 0
    waiting.check_all()


@BOTH
def test_readers_beside_a_sweep(waiting: Copies) -> None:
    """Five hundred times: versions are moved while somebody reads, who sees no gap and none of them twice."""
    depot = the_depot()
    dice = random.Random(SEED)
    ids = [version_id for version_id, _packet in depot.outbox.packets()]
    dice.shuffle(ids)
    moment = timezone.now()
    everything = {key: images[-1] for key, images in waiting.images.items() if images[-1] is not None}
    reads: list[Callable[[], object]] = [
        lambda: waiting.check(dice.randrange(DOCUMENTS)),
        lambda: waiting.check(dice.randrange(DOCUMENTS)),
        lambda: waiting.check(dice.randrange(DOCUMENTS)),
        lambda: same(len(list(history_of(Shuffled).versions())), waiting.count),
        lambda: same(sorted(one.pk for one in history_of(Shuffled).as_of(moment)), sorted(everything)),
        lambda: same(len(list(changesets())), waiting.count),
    ]
    with ThreadPoolExecutor(1) as sweeper:
        for place, version_id in enumerate(ids):
            moved = sweeper.submit(moving.sweep, depot, [version_id])
            reads[place % len(reads)]()
            assert moved.result().stored == 1
    assert depot.outbox.waiting().count == 0
    waiting.check_all()


def same(found: object, wanted: object) -> None:
    assert found == wanted


def test_two_sweeps_at_once(waiting: Copies) -> None:
    """Both may move the same versions: each is stored once."""
    depot = the_depot()
    with ThreadPoolExecutor(4) as sweepers:
        for counts in [sweepers.submit(moving.sweep, depot) for _sweeper in range(4)]:
            assert (counts.result().refused, counts.result().dead) == (0, 0)
    assert depot.outbox.waiting().count == 0
    waiting.check_all()
