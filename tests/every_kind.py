"""
Every kind of write as a random operation: what MongoEngine and the driver can do to a tracked document.

A kind is a function of a `World`, which holds one writer's random choices. What a kind changes is looked up in the
database by whoever runs it, so a kind says nothing about its own effect. Values written are never the same twice
(`World.fresh`) where a kind replaces all of a document; others come and go, so that states repeat.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import mongoengine
from mongoengine import fields
from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, ReturnDocument, UpdateMany, UpdateOne
from pymongo.write_concern import WriteConcern

from django_mongo_history import suppress_history
from tests.versions import HAS_BIND

KEYS: Final = (1, 2, 3, 4)
DEPOTS: Final = (1, 2)
UNACKNOWLEDGED: Final = WriteConcern(w=0)


class Depot(mongoengine.Document):
    """What parcels refer to, under every rule."""

    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    meta = {"collection": "depot"}


class Label(mongoengine.EmbeddedDocument):
    text = fields.StringField(db_field="t")
    weight = fields.IntField()


class ParcelBase(mongoengine.DynamicDocument):
    key = fields.DynamicField(primary_key=True)
    text = fields.StringField(db_field="tx")
    stamp = fields.IntField()
    count = fields.IntField(default=0)
    items = fields.ListField()
    notes = fields.DictField()
    labels = fields.EmbeddedDocumentListField(Label)
    code = fields.StringField(unique=True, sparse=True)
    owner = fields.ReferenceField(Depot, reverse_delete_rule=mongoengine.CASCADE)
    home = fields.ReferenceField(Depot, reverse_delete_rule=mongoengine.NULLIFY)
    stops = fields.ListField(fields.ReferenceField(Depot, reverse_delete_rule=mongoengine.PULL))
    meta = {"abstract": True}


class Parcel(ParcelBase):
    meta = {"collection": "parcel"}


class OtherParcel(ParcelBase):
    """Another class over the same documents, so that its writers can have another delivery."""

    meta = {"collection": "parcel"}


_numbers = itertools.count(1000)


@dataclass
class World:
    """
    One writer: its choices, the class that it writes through, and what is called inside its transactions.

    `has_transactions`: whether the server has any; without them the transaction kinds write one by one.
    """

    rng: random.Random
    parcel: Any = Parcel
    has_transactions: bool = True
    inside: Callable[[Any], None] = field(default=lambda session: None)

    @property
    def collection(self) -> Any:
        return self.parcel._get_collection()

    @property
    def raw(self) -> Any:
        """The collection past the tracker."""
        return mongoengine.get_db()["parcel"]

    def key(self) -> int:
        return self.rng.choice(KEYS)

    def fresh(self) -> int:
        return next(_numbers)

    def small(self) -> int:
        return self.rng.randrange(4)

    def one(self) -> Any:
        """A document that is there, with something in each of its fields."""
        key = self.key()
        found = self.parcel.objects(key=key).first()
        if found is None:
            found = self.new(key).save()
        return found

    def new(self, key: Any) -> Any:
        number = self.fresh()
        return self.parcel(
            key=key,
            text=f"new {number}",
            stamp=number,
            items=[self.small() for _ in range(3)],
            notes={"a": {"b": self.small()}, "list": [self.small(), {"x": 1}]},
            labels=[Label(text="x", weight=self.small()), Label(text="y", weight=number)],
            owner=self.rng.choice([None, self.depot()]),
            home=self.rng.choice([None, self.depot()]),
            stops=[self.depot() for _ in range(self.small())],
        )

    def depot(self) -> Depot:
        number = self.rng.choice(DEPOTS)
        return Depot.objects(number=number).first() or Depot(number=number, name=f"d{self.fresh()}").save()

    def document(self, **more: Any) -> dict[str, Any]:
        """A document as the driver takes it."""
        number = self.fresh()
        return {
            "tx": f"raw {number}",
            "stamp": number,
            "count": 1,
            "items": [self.small(), 7],
            "labels": [],
            **more,
        }

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """The session of a transaction, None where there are none."""
        if not self.has_transactions:
            yield None
            return
        with mongoengine.get_connection().start_session() as session, session.start_transaction():
            yield session

    @contextmanager
    def bound_transaction(self) -> Iterator[Any]:
        """The same, and MongoEngine's calls take part."""
        with self.transaction() as session:
            if session is None:
                yield None
                return
            with session.bind(end_session=False):
                yield session


Kind = Callable[[World], Any]


# -- save -------------------------------------------------------------------------------------------------------------


def save_whole(w: World) -> None:
    w.new(w.key()).save()


def save_new(w: World) -> None:
    w.new(w.fresh()).save()


def save_delta(w: World) -> None:
    found = w.one()
    for change in w.rng.sample(
        [
            lambda: setattr(found, "text", f"delta {w.small()}"),
            lambda: found.items.append(w.small()),
            lambda: found.items.clear() if not found.items else found.items.pop(),
            lambda: found.notes.update({f"k{w.small()}": {"n": w.small()}}),
            lambda: found.labels.append(Label(text="z", weight=w.fresh())),
            lambda: setattr(found, "labels", found.labels[::-1]),
            lambda: setattr(found, f"dynamic{w.small()}", w.fresh()),
            lambda: setattr(found, "count", w.fresh()),
        ],
        k=3,
    ):
        change()
    found.save()


def save_stale(w: World) -> None:
    found = w.one()
    w.parcel.objects(key=found.key).update(push__items=w.fresh(), set__stamp=w.fresh())
    found.items.append(w.fresh())
    found.text = f"stale {w.small()}"
    found.save()


def save_after_delete(w: World) -> None:
    found = w.one()
    w.parcel.objects(key=found.key).delete()
    found.text = f"back {w.fresh()}"
    found.save()


def save_with_condition(w: World) -> None:
    found = w.one()
    found.text = f"condition {w.fresh()}"
    found.save(save_condition={"stamp": found.stamp})


def save_with_failing_condition(w: World) -> None:
    found = w.one()
    found.text = f"condition {w.fresh()}"
    found.save(save_condition={"stamp": -1})


def save_forcing_insert(w: World) -> None:
    w.new(w.fresh()).save(force_insert=True)


def save_forcing_insert_of_a_duplicate(w: World) -> None:
    w.new(w.one().key).save(force_insert=True)


def save_cascading(w: World) -> None:
    found = w.one()
    found.home = w.depot()
    found.save()
    found.home.name = f"cascade {w.fresh()}"
    found.text = f"cascade {w.fresh()}"
    found.save(cascade=True)


def save_partly_loaded(w: World) -> None:
    found = w.parcel.objects(key=w.one().key).only("text").first()
    if found is not None:
        found.text = f"only {w.fresh()}"
        found.save()


# -- insert -----------------------------------------------------------------------------------------------------------


def insert_one(w: World) -> None:
    w.parcel.objects.insert(w.new(w.fresh()))


def insert_many(w: World) -> None:
    w.parcel.objects.insert([w.new(w.fresh()) for _ in range(3)], load_bulk=bool(w.small() % 2))


def insert_half_ordered(w: World) -> None:
    taken = w.one().key
    w.collection.insert_many([w.document(_id=key) for key in (w.fresh(), taken, w.fresh())])


def insert_half_unordered(w: World) -> None:
    taken = w.one().key
    w.collection.insert_many([w.document(_id=key) for key in (w.fresh(), taken, w.fresh())], ordered=False)


# -- update -----------------------------------------------------------------------------------------------------------

OPERATORS: Final[dict[str, Callable[[World], dict[str, Any]]]] = {
    "set": lambda w: {"$set": {"tx": f"set {w.fresh()}", "notes.a.c": w.small()}},
    "set_in_list": lambda w: {"$set": {"items.5": w.fresh()}},
    "unset": lambda w: {"$unset": {"notes.a": 1, "items.0": 1}, "$set": {"stamp": w.fresh()}},
    "inc": lambda w: {"$inc": {"count": 1 + w.small()}},
    "mul": lambda w: {"$mul": {"stamp": 2}},
    "min": lambda w: {"$min": {"stamp": -w.fresh()}},
    "max": lambda w: {"$max": {"stamp": w.fresh() * 1000}},
    "push": lambda w: {"$push": {"items": w.fresh()}},
    "push_each": lambda w: {"$push": {"items": {"$each": [w.fresh(), 2, 1], "$sort": -1, "$slice": 4}}},
    "pull": lambda w: {"$pull": {"items": {"$gte": 0}}, "$inc": {"count": 1}},
    "pull_all": lambda w: {"$pullAll": {"items": [0, 1, 2, 3]}, "$inc": {"count": 1}},
    "add_to_set": lambda w: {"$addToSet": {"items": {"$each": [w.fresh(), 1]}}},
    "pop": lambda w: {"$pop": {"labels": 1}, "$inc": {"count": 1}},
    "rename": lambda w: {"$rename": {"notes": f"notes{w.fresh()}"}},
    "current_date": lambda w: {"$currentDate": {"at": {"$type": "timestamp"}}},
    "bit": lambda w: {"$bit": {"count": {"xor": 5}}},
    "all_positions": lambda w: {"$inc": {"labels.$[].weight": 1}, "$set": {"stamp": w.fresh()}},
    "several": lambda w: {
        "$set": {"tx": f"several {w.small()}"},
        "$inc": {"count": 1},
        "$push": {"items": 1},
    },
}
"""Each is applied by key, to the first of a query, to many, by `modify` and by the driver, as the writer's choices go."""


def _refilled(w: World) -> int:
    """The key of a document on which every operator has something to do."""
    key = w.key()
    content = {
        "items": [3, 1, 2],
        "notes": {"a": {"c": 9}},
        "labels": [{"t": "x", "weight": 1}],
        "count": 1,
        "stamp": w.fresh(),
    }
    w.collection.update_one({"_id": key}, {"$set": content}, upsert=True)
    return key


def _operator(name: str) -> Kind:
    def write(w: World) -> None:
        key, update = _refilled(w), OPERATORS[name](w)
        one, few = w.parcel.objects(key=key), w.parcel.objects(key__in=list(KEYS), items__exists=True)
        c = w.collection
        w.rng.choice(
            [
                lambda: one.update(__raw__=update),
                lambda: few.update_one(__raw__=update),
                lambda: one.modify(__raw__=update, new=bool(w.small() % 2)),
                lambda: c.update_one({"_id": key}, update),
                lambda: c.update_many({"_id": key}, update),
                lambda: c.find_one_and_update({"_id": key}, update, {"tx": 1}),
                lambda: c.bulk_write([UpdateOne({"_id": key}, update)]),
            ]
        )()

    write.__name__ = f"update_{name}"
    return write


def update_many(w: World) -> None:
    w.parcel.objects(key__in=list(KEYS)).update(inc__count=1, set__stamp=w.fresh())


def update_document(w: World) -> None:
    w.one().update(set__text=f"document {w.fresh()}", inc__count=1)


def update_positional(w: World) -> None:
    key = _refilled(w)
    w.parcel.objects(key=key, labels__text="x").update_one(set__labels__S__weight=w.fresh())


def update_with_filters(w: World) -> None:
    key = _refilled(w)
    w.parcel.objects(key=key).update(
        __raw__={"$set": {"items.$[big]": w.fresh()}}, array_filters=[{"big": {"$gte": 2}}]
    )


def update_by_pipeline(w: World) -> None:
    key = _refilled(w)
    stages = [{"$set": {"sum": {"$sum": "$items"}, "stamp": w.fresh()}}, {"$unset": "notes"}]
    w.rng.choice(
        [
            lambda: w.parcel.objects(key=key).update(__raw__=stages),
            lambda: w.parcel.objects(key__in=list(KEYS)).update(__raw__=stages),
            lambda: w.collection.find_one_and_update({"_id": key}, stages),
        ]
    )()


def update_many_by_pipeline(w: World) -> None:
    stages = [
        {
            "$replaceWith": {
                "$mergeObjects": ["$$ROOT", {"stamp": w.fresh(), "twice": {"$add": ["$count", 1]}}]
            }
        }
    ]
    w.collection.update_many({"_id": {"$in": list(KEYS)}}, stages)


def update_unacknowledged(w: World) -> None:
    c = w.collection.with_options(write_concern=UNACKNOWLEDGED)
    c.update_one({"_id": w.one().key}, {"$set": {"stamp": w.fresh()}})


def modify_old(w: World) -> None:
    w.parcel.objects(key=w.one().key).modify(set__text=f"old {w.fresh()}")


def modify_new(w: World) -> None:
    w.parcel.objects(key__in=list(KEYS)).order_by("-key").modify(inc__count=1, set__stamp=w.fresh(), new=True)


def modify_projected(w: World) -> None:
    w.parcel.objects(key=w.one().key).only("text").modify(inc__count=1, new=True)


def modify_instance(w: World) -> None:
    # MongoEngine raises where another writer has taken away a field that no class declares.
    with contextlib.suppress(KeyError):
        w.one().modify(set__stamp=w.fresh())


def modify_removing(w: World) -> None:
    w.parcel.objects(key=w.one().key).modify(remove=True)


def upsert(w: World) -> None:
    w.parcel.objects(key=w.key()).upsert_one(set__text=f"upsert {w.fresh()}", inc__count=1)


def upsert_of_nothing(w: World) -> None:
    w.collection.update_one(
        {"_id": w.fresh()}, {"$setOnInsert": {"tx": "made"}, "$push": {"items": w.fresh()}}, upsert=True
    )


def upsert_without_id(w: World) -> None:
    w.parcel.objects(stamp=w.fresh()).update_one(upsert=True, set__text=f"found by no id {w.fresh()}")


def upsert_by_modify(w: World) -> None:
    w.parcel.objects(stamp=w.fresh()).modify(upsert=True, new=True, set__text=f"modify {w.fresh()}")


def upsert_many(w: World) -> None:
    w.parcel.objects(stamp=w.fresh()).update(upsert=True, set__text=f"many {w.fresh()}")


def update_to_a_duplicate(w: World) -> None:
    first = w.one()
    w.parcel.objects(key=first.key).update_one(set__code="taken")
    w.collection.update_one({"_id": w.fresh()}, {"$set": {"code": "taken"}}, upsert=True)


# -- the driver's own -------------------------------------------------------------------------------------------------


def replace(w: World) -> None:
    w.collection.replace_one({"_id": w.one().key}, w.document(odd={"a.b": 1, "$c": 2, "": 3}))


def replace_upserting(w: World) -> None:
    w.collection.replace_one({"_id": w.fresh()}, w.document(), upsert=True)


def find_one_and_update(w: World) -> None:
    w.collection.find_one_and_update(
        {"_id": w.one().key}, {"$set": {"stamp": w.fresh()}}, return_document=ReturnDocument.AFTER
    )


def find_one_and_replace(w: World) -> None:
    w.collection.find_one_and_replace({"_id": w.one().key}, w.document(), {"tx": 1})


def find_one_and_delete(w: World) -> None:
    w.collection.find_one_and_delete({"_id": w.one().key})


def _requests(w: World) -> list[Any]:
    first, second, third, fourth = KEYS
    requests = [
        InsertOne(w.document(_id=w.fresh())),
        UpdateOne({"_id": first}, {"$inc": {"count": 1}, "$set": {"stamp": w.fresh()}}, upsert=True),
        UpdateMany({"_id": second}, {"$set": {"tx": f"bulk {w.fresh()}"}}),
        ReplaceOne({"_id": third}, w.document(), upsert=True),
        DeleteOne({"_id": fourth}),
        DeleteMany({"stamp": {"$lt": -w.fresh()}}),
    ]
    w.rng.shuffle(requests)
    return requests


def bulk_ordered(w: World) -> None:
    w.collection.bulk_write(_requests(w))


def bulk_unordered(w: World) -> None:
    w.collection.bulk_write(_requests(w), ordered=False)


def bulk_failing_half_way(w: World) -> None:
    requests = [
        *_requests(w),
        InsertOne({"_id": "twice"}),
        InsertOne({"_id": "twice"}),
        InsertOne({"_id": w.fresh()}),
    ]
    w.collection.bulk_write(requests, ordered=bool(w.small() % 2))


# -- delete -----------------------------------------------------------------------------------------------------------


def delete_document(w: World) -> None:
    w.one().delete()


def delete_by_key(w: World) -> None:
    w.parcel.objects(key=w.one().key).delete()


def delete_many(w: World) -> None:
    w.one()
    w.parcel.objects(key__in=[*w.rng.sample(KEYS, 2), w.one().key]).delete()


def delete_some(w: World) -> None:
    w.one()
    w.parcel.objects(key__in=list(KEYS)).limit(1).delete()


def delete_with_rules(w: World) -> None:
    depot, first, second = w.depot(), w.new(KEYS[0]), w.new(KEYS[1])
    first.owner = depot
    second.owner, second.home, second.stops = None, depot, [depot, depot]
    first.save()
    second.save()
    depot.delete()


# -- transactions of the caller's -------------------------------------------------------------------------------------


def transaction(w: World) -> None:
    """The driver's calls, which are told their session."""
    key = w.one().key
    w.inside(None)
    with w.transaction() as session:
        for write in (
            lambda: w.collection.update_one({"_id": key}, {"$inc": {"count": 1}}, session=session),
            lambda: w.collection.update_one({"_id": key}, {"$set": {"tx": "A"}}, session=session),
            lambda: w.collection.update_many({"_id": key}, {"$set": {"tx": "B"}}, session=session),
            lambda: w.collection.insert_one(w.document(_id=w.fresh()), session=session),
            lambda: w.collection.replace_one({"_id": key}, w.document(), session=session),
            lambda: w.collection.delete_one({"_id": key}, session=session),
            lambda: w.collection.insert_one(w.document(_id=key), session=session),
        ):
            write()
            w.inside(session)


def transaction_of_documents(w: World) -> None:
    """MongoEngine's calls, to which the session is bound."""
    key = w.one().key
    w.inside(None)
    with w.bound_transaction() as session:
        for write in (
            lambda: w.parcel.objects(key=key).update(inc__count=1, set__stamp=w.fresh()),
            lambda: w.parcel.objects(key=key).update(set__text="A"),
            lambda: w.parcel.objects(key=key).update(set__text="B"),
            lambda: w.parcel.objects(key=key).update(set__text="A"),
            lambda: w.parcel.objects.insert(w.new(w.fresh())),
            lambda: w.parcel.objects(key=key).modify(push__items=w.fresh()),
            lambda: w.parcel.objects(key=key).delete(),
            lambda: w.new(key).save(),
        ):
            write()
            w.inside(session)


class CalledOffError(Exception):
    """The caller changes its mind."""


def transaction_rolled_back(w: World) -> None:
    key = w.one().key
    with w.transaction() as session:
        if session is None:
            raise CalledOffError
        w.collection.update_one({"_id": key}, {"$inc": {"count": 1}}, session=session)
        w.collection.insert_one(w.document(_id=w.fresh()), session=session)
        w.collection.delete_one({"_id": key}, session=session)
        raise CalledOffError


def transaction_of_documents_rolled_back(w: World) -> None:
    key = w.one().key
    with w.bound_transaction() as session:
        if session is None:
            raise CalledOffError
        w.parcel.objects(key=key).update(inc__count=1, set__stamp=w.fresh())
        w.parcel.objects.insert(w.new(w.fresh()))
        w.parcel.objects(key=key).delete()
        raise CalledOffError


# -- past the tracker -------------------------------------------------------------------------------------------------


def raw_update(w: World) -> None:
    w.raw.update_one({"_id": w.key()}, {"$set": {"tx": f"raw {w.fresh()}"}})


def raw_replace(w: World) -> None:
    w.raw.replace_one({"_id": w.key()}, w.document())


def raw_insert(w: World) -> None:
    w.raw.insert_one(w.document(_id=w.fresh()))


def raw_delete(w: World) -> None:
    w.raw.delete_one({"_id": w.key()})


def suppressed(w: World) -> None:
    with suppress_history("not for the books"):
        w.parcel.objects(key=w.one().key).update(set__stamp=w.fresh())


WITHOUT_EFFECT: Final[Sequence[Kind]] = (
    save_with_failing_condition,
    save_forcing_insert_of_a_duplicate,
    transaction_rolled_back,
    *([transaction_of_documents_rolled_back] if HAS_BIND else []),
)
"""Kinds that may leave what `World.one` made, and nothing of their own; each ends in an exception."""
PAST_THE_TRACKER: Final[Sequence[Kind]] = (raw_update, raw_replace, raw_insert, raw_delete, suppressed)
RECORDED: Final[Sequence[Kind]] = (
    save_whole, save_new, save_delta, save_stale, save_after_delete, save_with_condition, save_forcing_insert,
    save_cascading, save_partly_loaded, insert_one, insert_many, insert_half_ordered, insert_half_unordered,
    *map(_operator, OPERATORS), update_many, update_document, update_positional, update_with_filters,
    update_by_pipeline, update_many_by_pipeline, update_unacknowledged, update_to_a_duplicate, modify_old, modify_new,
    modify_projected, modify_instance, modify_removing, upsert, upsert_of_nothing, upsert_without_id,
    upsert_by_modify, upsert_many, replace, replace_upserting, find_one_and_update, find_one_and_replace,
    find_one_and_delete, bulk_ordered, bulk_unordered, bulk_failing_half_way, delete_document, delete_by_key,
    delete_many, delete_some, delete_with_rules, transaction, *([transaction_of_documents] if HAS_BIND else []),
)  # fmt: skip
"""Kinds that change something, whatever the writer's choices."""
TRANSACTIONS: Final = (transaction, transaction_of_documents)
"""Kinds that callers try again where they collided."""


ENDING_IN_ERRORS: Final[Sequence[Kind]] = (
    *WITHOUT_EFFECT, insert_half_ordered, insert_half_unordered, bulk_failing_half_way, update_to_a_duplicate,
)  # fmt: skip


def dealt(rng: random.Random, kinds: Sequence[Kind], rounds: int) -> Iterator[Kind]:
    """Every kind `rounds` times, in a random order."""
    cards = [kind for kind in kinds for _ in range(rounds)]
    rng.shuffle(cards)
    return iter(cards)
