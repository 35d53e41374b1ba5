"""Random operations with random options, tracked and not: `tests.differential` over what no table thought of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mongoengine
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mongoengine import fields
from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne, WriteConcern

from tests import differential
from tests.differential import Case, See, World

Call = Callable[[], Any]


class Sherd(mongoengine.Document):
    """Something that can hold nearly anything."""

    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    count = fields.IntField()
    marks = fields.ListField(fields.IntField())
    box = fields.DictField()
    code = fields.StringField(unique=True, sparse=True)
    meta = {"collection": "sherd", "indexes": ["name"]}


@pytest.fixture(scope="module", params=differential.MODES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with differential.world(request, (Sherd,), {"CHUNK_SIZE": 3}) as made:
        yield made


NUMBERS = st.integers(1, 6)
NAMES = st.sampled_from(["a", "b", "A", ""])
VALUES = st.one_of(st.integers(-2, 2), st.sampled_from([None, 1.0, "x", [], [1], {"k": 1}, {}, True]))

# What MongoEngine makes of keywords.
CHANGES = st.one_of(
    st.fixed_dictionaries({"set__count": st.integers(0, 3)}),
    st.fixed_dictionaries({"set__name": NAMES, "unset__count": st.just(1)}),
    st.fixed_dictionaries({"inc__count": st.integers(0, 2)}),
    st.fixed_dictionaries({"push__marks": st.integers(0, 3)}),
    st.fixed_dictionaries({"add_to_set__marks": st.integers(0, 3)}),
    st.fixed_dictionaries({"pull__marks": st.integers(0, 3)}),
    st.fixed_dictionaries({"pop__marks": st.sampled_from([-1, 1])}),
    st.fixed_dictionaries({"set__marks__1": st.integers(0, 3)}),
    st.fixed_dictionaries({"set__box__k": VALUES}),
    st.fixed_dictionaries({"unset__box__k": st.just(1)}),
    st.fixed_dictionaries({"code": st.sampled_from(["u", "v"])}),
    st.fixed_dictionaries({"rename__name": st.just("count")}),
    st.just({"bogus": 1}),
    st.just({}),
)
QUERIES = st.one_of(
    st.fixed_dictionaries({"number": NUMBERS}),
    st.fixed_dictionaries({"name": NAMES}),
    st.fixed_dictionaries({"count__gte": st.integers(0, 3)}),
    st.fixed_dictionaries({"marks": st.integers(0, 3)}),
    st.fixed_dictionaries({"number__in": st.lists(NUMBERS, max_size=3)}),
    st.fixed_dictionaries({"name": NAMES, "number": NUMBERS}),
    st.just({}),
)
# And what the driver takes.
UPDATES = st.one_of(
    st.fixed_dictionaries(
        {"$set": st.dictionaries(st.sampled_from(["count", "box.k", "box.j", "marks.0"]), VALUES, min_size=1)}
    ),
    st.fixed_dictionaries(
        {"$unset": st.dictionaries(st.sampled_from(["count", "box", "box.k"]), st.just(1), min_size=1)}
    ),
    st.fixed_dictionaries({"$inc": st.fixed_dictionaries({"count": VALUES})}),
    st.fixed_dictionaries(
        {"$setOnInsert": st.fixed_dictionaries({"name": NAMES}), "$mul": st.just({"count": 2})}
    ),
    st.builds(lambda value: [{"$set": {"count": {"$literal": value}}}], VALUES),
    st.fixed_dictionaries({"$set": st.fixed_dictionaries({"_id": NUMBERS})}),
    st.fixed_dictionaries({"$bad": st.just({"a": 1})}),
)
# An update of many that fails half way is rolled back, which is a documented difference: these fail at once or never.
OF_MANY = st.one_of(
    st.fixed_dictionaries({"$set": st.fixed_dictionaries({"count": VALUES})}),
    st.fixed_dictionaries(
        {"$unset": st.dictionaries(st.sampled_from(["count", "box"]), st.just(1), min_size=1)}
    ),
    st.builds(lambda value: [{"$set": {"count": {"$literal": value}}}], VALUES),
    st.fixed_dictionaries({"$set": st.fixed_dictionaries({"_id": NUMBERS})}),
    st.fixed_dictionaries({"$bad": st.just({"a": 1})}),
)
FILTERS = st.one_of(
    st.fixed_dictionaries({"_id": NUMBERS}),
    st.fixed_dictionaries({"name": NAMES}),
    st.fixed_dictionaries({"count": VALUES}),
    st.just({"$or": [{"name": "a"}, {"_id": 2}]}),
    st.just({"_id": {"$gt": 2}}),
    st.just({}),
    st.just({"$bad": 1}),
)
REPLACEMENTS = st.dictionaries(st.sampled_from(["name", "count", "marks"]), VALUES, max_size=3)
CONCERNS = st.sampled_from([None, WriteConcern(w=1), WriteConcern(w="majority"), WriteConcern(j=True)])
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "upsert": st.booleans(),
        "collation": st.sampled_from([None, {"locale": "en", "strength": 1}]),
        "hint": st.sampled_from(["name_1", "_id_", "nothing"]),
        "comment": st.just("c"),
        "let": st.just({"x": 1}),
    },
)


def _queryset(query: dict[str, Any], method: str, change: dict[str, Any], upsert: bool) -> Call:
    def call() -> Any:
        found = Sherd.objects(**query)
        is_certain = not change.keys() & {
            "code",
            "set__marks__1",
            "set__box__k",
            "inc__count",
            "push__marks",
            "pop__marks",
            "pull__marks",
            "add_to_set__marks",
        }
        if method == "delete":
            return found.delete()
        if method in {"modify", "modify_new"}:
            return found.order_by("number").modify(upsert=upsert, new=method == "modify_new", **change)
        if method == "upsert_one":
            return found.upsert_one(**change)
        return found.update(
            upsert=upsert, multi=method == "update" and is_certain, full_result=True, **change
        )

    return call


def _saved(number: int, values: dict[str, Any], forced: bool) -> Call:
    def call() -> Any:
        found = None if forced else Sherd.objects(number=number).first()
        one = found or Sherd(number=number)
        for name, value in values.items():
            setattr(one, name, value)
        return one.save(force_insert=forced, validate=False)

    return call


def _inserted(numbers: list[int], ordered: bool) -> Call:
    return lambda: Sherd._get_collection().insert_many(
        [{"_id": number, "name": "i"} for number in numbers], ordered=ordered
    )


def _driven(method: str, query: Any, change: Any, options: dict[str, Any], concern: Any) -> Call:
    def call() -> Any:
        collection = Sherd._get_collection().with_options(write_concern=concern)
        operands = (query,) if change is None else (query, change)
        return getattr(collection, method)(*operands, **options)

    return call


def _batch(requests: list[Any], ordered: bool) -> Call:
    return lambda: Sherd._get_collection().bulk_write([make() for make in requests], ordered=ordered)


def _removing(options: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return options.map(lambda found: {name: value for name, value in found.items() if name != "upsert"})


QUERYSETS = st.builds(
    _queryset,
    QUERIES,
    st.sampled_from(["update", "update_one", "upsert_one", "modify", "modify_new", "delete"]),
    CHANGES,
    st.booleans(),
)
SAVES = st.builds(
    _saved,
    NUMBERS,
    st.fixed_dictionaries(
        {},
        optional={
            "name": NAMES,
            "count": VALUES,
            "marks": st.lists(NUMBERS, max_size=3),
            "box": st.dictionaries(st.sampled_from(["k", "j", "a.b"]), VALUES),
            "code": st.sampled_from(["u", "v"]),
        },
    ),
    st.booleans(),
)
DRIVEN = st.one_of(
    st.builds(_driven, st.just("update_many"), FILTERS, OF_MANY, OPTIONS, CONCERNS),
    st.builds(
        _driven,
        st.sampled_from(["update_one", "find_one_and_update"]),
        FILTERS,
        UPDATES,
        OPTIONS,
        CONCERNS,
    ),
    st.builds(
        _driven,
        st.sampled_from(["replace_one", "find_one_and_replace"]),
        FILTERS,
        REPLACEMENTS,
        OPTIONS,
        CONCERNS,
    ),
    st.builds(
        _driven,
        st.sampled_from(["delete_one", "delete_many", "find_one_and_delete"]),
        FILTERS,
        st.none(),
        _removing(OPTIONS),
        CONCERNS,
    ),
)
REQUESTS = st.one_of(
    st.builds(lambda number: lambda: InsertOne({"_id": number}), NUMBERS),
    st.builds(
        lambda query, change, upsert: lambda: UpdateOne(query, change, upsert=upsert),
        FILTERS,
        UPDATES,
        st.booleans(),
    ),
    st.builds(lambda query, change: lambda: UpdateMany(query, change), FILTERS, OF_MANY),
    st.builds(
        lambda query, document, upsert: lambda: ReplaceOne(query, document, upsert=upsert),
        FILTERS,
        REPLACEMENTS,
        st.booleans(),
    ),
    st.builds(lambda query: lambda: DeleteOne(query), FILTERS),
    st.builds(lambda query: lambda: DeleteMany(query), FILTERS),
)
OPERATIONS = st.one_of(
    QUERYSETS,
    SAVES,
    DRIVEN,
    st.builds(_inserted, st.lists(NUMBERS, min_size=1, max_size=5), st.booleans()),
    st.builds(_batch, st.lists(REQUESTS, min_size=1, max_size=4), st.booleans()),
)


@settings(max_examples=25, suppress_health_check=list(HealthCheck), database=None)
@given(operations=st.lists(OPERATIONS, min_size=1, max_size=8))
def test_random_operations(world: World, operations: list[Call]) -> None:
    def script(see: See) -> None:
        Sherd.objects.insert(
            [
                Sherd(number=number, name="ab"[number % 2], count=number, marks=[number])
                for number in (1, 2, 3, 4)
            ]
        )
        for call in operations:
            see(call)

    world.compare(Case("random", script, images=None))
