"""What documents point to, and instances whose references lead elsewhere. MongoEngine, and no server."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator, Sequence
from typing import Any

import mongoengine as me
import pytest
from bson import DBRef
from bson.codec_options import DEFAULT_CODEC_OPTIONS
from mongoengine.base.common import _document_registry as registry
from mongoengine.errors import DoesNotExist

from django_mongo_history.documents import (
    Pointer,
    Reference,
    check_relation,
    filled,
    instance_of,
    knows_relation,
    leads_on,
    leaves,
    pointers_in,
    relation_names,
)
from django_mongo_history.documents.states import load_problem


class Classes:
    """Every place where a reference can lie."""

    def __init__(self) -> None:
        class UnitTown(me.Document):
            code = me.StringField(primary_key=True)
            name = me.StringField(db_field="n")
            twin = me.ReferenceField("self", db_field="tw")
            meta = {"collection": "unit_town", "allow_inheritance": True}

        class UnitCity(UnitTown):
            mayor = me.GenericReferenceField(choices=["UnitTown"])

        class UnitStop(me.EmbeddedDocument):
            town = me.ReferenceField(UnitTown, db_field="t")
            length = me.IntField()
            meta = {"allow_inheritance": True}

        class UnitLongStop(UnitStop):
            sleeps_in = me.LazyReferenceField(UnitTown, db_field="si")

        class UnitTrip(me.DynamicDocument):
            number = me.IntField(primary_key=True)
            start = me.ReferenceField(UnitTown, db_field="s")
            lazy = me.LazyReferenceField(UnitTown)
            cached = me.CachedReferenceField(UnitTown, fields=["name"])
            stops = me.EmbeddedDocumentListField(UnitStop, db_field="st")
            either = me.GenericEmbeddedDocumentField(choices=[UnitStop])
            named = me.MapField(me.EmbeddedDocumentField(UnitStop), db_field="nd")
            deep = me.ListField(me.MapField(me.ListField(me.ReferenceField(UnitTown))))
            free = me.DictField(db_field="f")
            loose = me.ListField()
            lost = me.ReferenceField("UnitNobody")
            point = me.PointField()
            meta = {"collection": "unit_trip"}

        self.Town, self.City, self.Stop, self.Trip = UnitTown, UnitCity, UnitStop, UnitTrip
        self.LongStop = UnitLongStop


@pytest.fixture(scope="module")
def classes() -> Iterator[Classes]:
    made = Classes()
    yield made
    for name in list(registry):
        if name.startswith("Unit"):
            registry.pop(name)


def _town(classes: Classes, key: str, collection: str | None = None) -> Reference:
    return Reference(classes.Town, "UnitTown", key, collection)


# -- paths -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "names", "goes_on"),
    [
        ("start", {("s",)}, False),
        ("s", {("s",)}, False),
        ("start.twin.twin", {("s",)}, True),
        ("start.mayor", {("s",)}, True),
        ("stops.town", {("st", "t")}, False),
        ("stops.sleeps_in", {("st", "si")}, False),
        ("either.town", {("either", "t")}, False),
        ("named.*.town", {("nd", "*", "t")}, False),
        ("named.first.town.twin", {("nd", "first", "t")}, True),
        ("deep.*", {("deep", "*")}, False),
        ("deep", {("deep",)}, False),
        ("free.a.b", {("f", "a", "b")}, False),
        ("loose", {("loose",)}, False),
        ("lost", {("lost",)}, False),
        ("lost.anything.at.all", {("lost",)}, True),
        ("undeclared.a", {("undeclared", "a")}, False),
    ],
)
def test_paths(classes: Classes, path: str, names: set[tuple[str, ...]], goes_on: bool) -> None:
    """Names end at the first reference, and whether a path goes on behind one is known."""
    parts = tuple(path.split("."))
    check_relation(classes.Trip, path)
    assert set(relation_names(classes.Trip, parts)) == names
    assert leads_on(classes.Trip, parts) is goes_on
    assert knows_relation(classes.Trip, parts)


@pytest.mark.parametrize(
    "path",
    ["stops", "stops.length", "start.name", "start.nope", "point", "stops.nope", "named.town", "", "a..b"],
)
def test_paths_that_lead_nowhere(classes: Classes, path: str) -> None:
    """They are refused, also behind a reference and behind a key that was left out."""
    with pytest.raises(ValueError):  # noqa: PT011 - what it says is looked at where users meet it
        check_relation(classes.Trip, path)
    assert not path or ".." in path or not knows_relation(classes.Trip, tuple(path.split(".")))


# -- states ------------------------------------------------------------------------------------------------------------


def _state() -> dict[str, Any]:
    generic = {"_cls": "UnitTown.UnitCity", "_ref": DBRef("unit_town", "G")}
    return {
        "_id": 1,
        "s": "A",
        "lazy": DBRef("elsewhere", "B"),
        "cached": {"_id": "C", "n": "name"},
        "st": [{"t": "D", "_cls": "UnitStop"}, {"_cls": "UnitLongStop", "si": "E"}, None],
        "either": {"_cls": "UnitStop", "t": "F"},
        "nd": {"x": {"t": "H"}, "y": {}},
        "deep": [{"k": ["I", None], "l": []}, {}],
        "f": {"a": {"b": generic}, "n": 7},
        "loose": [generic, 1, DBRef("unit_town", "J"), {"$ref": "unit_town", "$id": "K"}, "text"],
        "lost": "L",
        "undeclared": DBRef("unit_town", "M"),
    }


def test_pointers(classes: Classes) -> None:
    """What a relation holds has the shape of the state, with what is empty or no reference as None."""

    def held(path: str) -> Any:
        return pointers_in(classes.Trip, _state(), tuple(path.split(".")))

    city = Reference(classes.City, "UnitTown.UnitCity", "G", "unit_town")
    assert held("start") == Pointer(_town(classes, "A"))
    assert held("start.twin.twin") == Pointer(_town(classes, "A"), ("twin", "twin"))
    assert held("lazy") == Pointer(_town(classes, "B", "elsewhere"))
    assert held("cached") == Pointer(_town(classes, "C"))
    assert held("stops.town") == [Pointer(_town(classes, "D")), None, None]
    assert held("stops.sleeps_in") == [None, Pointer(_town(classes, "E")), None]
    assert held("either.town") == Pointer(_town(classes, "F"))
    assert held("named.*.town") == {"x": Pointer(_town(classes, "H")), "y": None}
    assert held("named.x.town") == Pointer(_town(classes, "H"))
    assert held("named.z.town") is None
    assert held("deep.*") == [{"k": [Pointer(_town(classes, "I")), None], "l": []}, {}]
    assert held("deep.k") == [[Pointer(_town(classes, "I")), None], None]
    assert held("free.a.b") == Pointer(city)
    assert held("free") == {"a": {"b": Pointer(city)}, "n": None}
    assert held("loose") == [
        Pointer(city),
        None,
        Pointer(_town(classes, "J", "unit_town")),
        Pointer(_town(classes, "K", "unit_town")),
        None,
    ]
    assert held("lost") == Pointer(Reference(None, "UnitNobody", "L"))
    assert held("undeclared") == Pointer(_town(classes, "M", "unit_town"))
    assert held("not_there") is None


def test_shapes(classes: Classes) -> None:
    """Leaves come in order, and go back to their places."""
    shape = [1, None, {"a": 2, "b": [3, []]}]
    assert list(leaves(shape)) == [1, 2, 3]
    assert filled(shape, iter("xyz")) == ["x", None, {"a": "y", "b": ["z", []]}]


# -- instances ---------------------------------------------------------------------------------------------------------


class _Towns:
    """Towns by key, made anew each time; it tells what it was asked."""

    def __init__(self, classes: Classes, missing: str = "") -> None:
        self.classes, self.missing = classes, missing
        self.asked: list[list[str]] = []

    def __call__(self, references: Sequence[Reference]) -> list[Any]:
        self.asked.append([one.key for one in references])
        return [
            None if one.key in self.missing else self.classes.Town(code=one.key, name=f"then {one.key}")
            for one in references
        ]


def test_three_instances_lead_by_themselves(classes: Classes) -> None:
    """Each asks for its own references, once, when they are looked at; the class and live instances know nothing of it."""
    towns = [_Towns(classes) for _n in range(3)]
    trips = [
        instance_of(classes.Trip, {"_id": n, "s": f"S{n}", "deep": [{"k": [f"D{n}"]}]}, towns[n])
        for n in range(3)
    ]
    assert [one.asked for one in towns] == [[], [], []]
    for n, trip in enumerate(trips):
        assert trip.start.name == trip.start.name == f"then S{n}"
        assert trip.deep[0]["k"][0].name == trip.deep[0]["k"][0].name == f"then D{n}"
        assert towns[n].asked == [[f"S{n}"], [f"D{n}"]]
    assert type(classes.Trip._fields["start"]) is me.ReferenceField
    assert isinstance(trips[0]._fields["start"], me.ReferenceField)


def test_every_place_leads(classes: Classes) -> None:
    """Through embedded documents of every kind, lists and maps; what was fetched for one place is that place's alone."""
    towns = _Towns(classes)
    state = {key: value for key, value in _state().items() if key not in ("lost", "undeclared")}
    state["st"].pop()  # MongoEngine loads no list of embedded documents with a null in it
    state["loose"][3] = DBRef("unit_town", "K")  # as PyMongo reads it
    trip = instance_of(classes.Trip, state, towns)
    assert trip.lazy.fetch().name == "then B"
    assert trip.cached.name == "then C"
    assert trip.stops[0].town.name == "then D"
    assert trip.stops[1].sleeps_in.fetch().name == "then E"
    assert trip.either.town.name == "then F"
    assert trip.named["x"].town.name == "then H"
    assert trip.named["y"].town is None
    assert trip.deep[0]["k"][0].name == "then I"
    assert trip.free["a"]["b"].name == "then G"
    assert [getattr(one, "name", one) for one in trip.loose] == ["then G", 1, "then J", "then K", "text"]
    assert towns.asked == [["B"], ["C"], ["D"], ["E"], ["F"], ["H"], ["I"], ["G"], ["G", "J", "K"]]
    assert "_fields" not in vars(classes.Stop(town=None))


def test_nothing_is_asked_for_to_store_it(classes: Classes) -> None:
    """An instance that nobody looked into is what it was made of, cached values included."""
    towns = _Towns(classes)
    state = {
        "_id": 1,
        "s": "A",
        "cached": {"_id": "C", "_cls": "UnitTown", "n": "as cached"},
        "st": [{"t": "D"}],
    }
    trip = instance_of(classes.Trip, state, towns)
    stored = trip.to_mongo()
    assert (stored["s"], stored["st"][0]["t"]) == ("A", "D")
    assert stored["cached"]["n"] == "as cached"
    assert towns.asked == []
    assert trip.cached.name == "then C"


def test_where_nothing_is(classes: Classes) -> None:
    """A single reference raises on access and again; in a list what is stored stays."""
    trip = instance_of(
        classes.Trip, {"_id": 1, "s": "A", "lazy": "A", "deep": [{"k": ["A", "B"]}]}, _Towns(classes, "A")
    )
    for _time in range(2):
        with pytest.raises(DoesNotExist, match="'A' did not exist"):
            trip.start  # noqa: B018
        with pytest.raises(DoesNotExist):
            trip.lazy.fetch()
    assert trip.deep[0]["k"][0] == DBRef("unit_town", "A")
    assert trip.deep[0]["k"][1].name == "then B"


def test_instances_are_not_kept(classes: Classes) -> None:
    """A field that leads knows its instance without keeping it."""
    import weakref

    trip = instance_of(classes.Trip, {"_id": 1, "s": "A"}, _Towns(classes))
    fields, gone = trip._fields, weakref.ref(trip)
    assert trip.start.name == "then A"
    del trip
    gc.collect()
    assert gone() is None
    assert fields["start"]._auto_dereference is False


def test_copies_are_of_no_moment(classes: Classes) -> None:
    """A deep copy holds what the instance held, and asks nobody."""
    towns = _Towns(classes)
    trip = instance_of(classes.Trip, {"_id": 1, "s": "A"}, towns)
    assert copy.deepcopy(trip).to_mongo()["s"] == "A"
    assert towns.asked == []


def test_cached_references_that_will_be_there(classes: Classes) -> None:
    """A state is loadable where what its cached references need comes back with it."""
    asked: list[Reference] = []

    def is_coming(reference: Reference) -> bool:
        asked.append(reference)
        return True

    classes.Town._collection = _NoCollection()
    try:
        state = {"_id": 1, "cached": {"_id": "C", "n": "name"}}
        assert load_problem(classes.Trip, state, is_coming) is None
    finally:
        classes.Town._collection = None
    assert asked == [_town(classes, "C")]


class _NoCollection:
    """Codec options are all that is asked of it."""

    codec_options = DEFAULT_CODEC_OPTIONS
