"""
Relations as they were, back to what they were, and the way round: always with three documents of everything.

A revert of one of three must leave the other two, and what they point to, byte for byte as they are.
"""

from __future__ import annotations

import copy
import pickle
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import mongoengine
import pytest
from bson import DBRef
from mongoengine import fields
from mongoengine.errors import DoesNotExist
from pymongo import monitoring
from pymongo.database import Database

from django_mongo_history import (
    ConflictError,
    HiddenFieldError,
    LiveDocument,
    NotTrackedError,
    UntrackedFieldError,
    VanishedDocument,
    changeset,
    history_of,
    runtime,
    track,
    untrack,
)
from django_mongo_history.core.model import Operation
from django_mongo_history.query import Version
from tests.judge import HISTORY, configured

START = datetime(2024, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class RelCapital(mongoengine.Document):
    name = fields.StringField(primary_key=True)
    mayor = fields.StringField(db_field="m")
    land = fields.LazyReferenceField("RelLand", db_field="l")
    meta = {"collection": "rel_capital"}


class RelLand(mongoengine.Document):
    code = fields.StringField(primary_key=True)
    name = fields.StringField(db_field="n")
    capital = fields.ReferenceField(RelCapital, db_field="c")
    neighbours = fields.ListField(fields.ReferenceField("self"), db_field="nb")
    secret = fields.StringField(db_field="s")
    meta = {"collection": "rel_land"}


class RelPerson(mongoengine.Document):
    """A key whose exact type matters, and classes below it."""

    key = fields.UUIDField(primary_key=True, binary=True)
    name = fields.StringField()
    land = fields.ReferenceField(RelLand)
    meta = {"collection": "rel_person", "allow_inheritance": True}


class RelSurveyor(RelPerson):
    licence = fields.StringField()
    chief = fields.ReferenceField(RelPerson)


class RelHotel(mongoengine.Document):
    """Never tracked."""

    name = fields.StringField(primary_key=True)
    stars = fields.IntField()
    land = fields.ReferenceField(RelLand)
    meta = {"collection": "rel_hotel"}


class RelRunway(mongoengine.EmbeddedDocument):
    length = fields.IntField(db_field="len")
    surveyor = fields.ReferenceField(RelPerson, db_field="sv")
    crew = fields.ListField(fields.ReferenceField(RelPerson, dbref=True))


class RelPort(mongoengine.Document):
    """One of every kind of reference, database names unlike the attributes'."""

    icao = fields.StringField(primary_key=True)
    name = fields.StringField(db_field="n")
    land = fields.ReferenceField(RelLand, db_field="ld")
    lazy = fields.LazyReferenceField(RelLand, db_field="lz")
    old_style = fields.ReferenceField(RelLand, dbref=True)
    cached = fields.CachedReferenceField(RelLand, fields=["name"])
    owner = fields.GenericReferenceField(db_field="ow")
    lazy_owner = fields.GenericLazyReferenceField()
    lands = fields.ListField(fields.ReferenceField(RelLand), db_field="lds")
    lazy_lands = fields.ListField(fields.LazyReferenceField(RelLand))
    cached_lands = fields.ListField(fields.CachedReferenceField(RelLand, fields=["name"]))
    owners = fields.ListField(fields.GenericReferenceField())
    nested = fields.ListField(fields.ListField(fields.ReferenceField(RelLand)))
    by_role = fields.MapField(fields.ReferenceField(RelPerson), db_field="br")
    anything = fields.DictField()
    runways = fields.EmbeddedDocumentListField(RelRunway, db_field="rw")
    main = fields.EmbeddedDocumentField(RelRunway)
    by_name = fields.MapField(fields.EmbeddedDocumentField(RelRunway))
    hotel = fields.ReferenceField(RelHotel)
    next_port = fields.ReferenceField("self")
    hidden_land = fields.ReferenceField(RelLand, db_field="hl")
    loose_land = fields.ReferenceField(RelLand)
    hits = fields.IntField()
    meta = {"collection": "rel_port", "allow_inheritance": True}


class RelHeliport(RelPort):
    pads = fields.IntField()
    rescue = fields.ReferenceField(RelPerson)


TRACKED = (RelCapital, RelLand, RelPerson)
CLASSES = (*TRACKED, RelPort, RelHotel)


class _Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def tick(self, seconds: int = 1) -> datetime:
        self.now += seconds * SECOND
        return self.now


def _at(second: float) -> datetime:
    return START + second * SECOND


@pytest.fixture
def clock(mongodb: Database) -> Iterator[_Clock]:
    with configured():
        found = _Clock()
        runtime.current().environment.now = found
        for document_class in TRACKED:
            track(document_class)
        track(RelPort, hidden=["hidden_land"], untracked=["loose_land", "hits"])
        yield found
        for document_class in (*TRACKED, RelPort):
            untrack(document_class)


class _World:
    """
    Three of everything, made at second 0; at second 10 all was changed. `v[n]` are the ports' versions of second 0.

    Port n lies in land n, whose capital is capital n, whose land is land n again.
    """

    def __init__(self, clock: _Clock) -> None:
        self.clock = clock
        self.capitals = [RelCapital(name=f"C{n}", mayor=f"mayor {n}").save() for n in range(3)]
        self.lands = [
            RelLand(code=f"L{n}", name=f"land {n}", capital=self.capitals[n]).save() for n in range(3)
        ]
        for n in range(3):
            self.capitals[n].update(set__land=self.lands[n])
            self.lands[n].update(set__neighbours=[self.lands[(n + 1) % 3], self.lands[(n + 2) % 3]])
        self.people = [
            RelSurveyor(key=uuid.UUID(int=n + 1), name=f"person {n}", land=self.lands[n]).save()
            for n in range(3)
        ]
        for n in range(3):
            self.people[n].update(set__chief=self.people[(n + 1) % 3])
        self.hotels = [RelHotel(name=f"H{n}", stars=n, land=self.lands[n]).save() for n in range(3)]
        clock.tick()
        self.ports = [self._port(n).save() for n in range(3)]
        for port in self.ports:
            port.reload()
        self.made = clock.now
        self.v = [history_of(port)[-1] for port in self.ports]
        clock.tick(9)

    def _port(self, n: int) -> RelPort:
        land, other = self.lands[n], self.lands[(n + 1) % 3]
        person, second = self.people[n], self.people[(n + 1) % 3]
        return RelPort(
            icao=f"P{n}",
            name=f"port {n}",
            land=land,
            lazy=land,
            old_style=land,
            cached=RelLand.objects.get(code=land.code),
            owner=person,
            lazy_owner=land,
            lands=[land, other],
            lazy_lands=[land, other],
            cached_lands=[RelLand.objects.get(code=land.code)],
            owners=[person, land],
            nested=[[land], [other, land]],
            by_role={"head": person, "deputy": second},
            anything={"note": 1, "home": land},
            runways=[RelRunway(length=1, surveyor=person, crew=[person, second]), RelRunway(length=2)],
            main=RelRunway(length=3, surveyor=second),
            by_name={"north": RelRunway(surveyor=person), "south": RelRunway(surveyor=second)},
            hotel=self.hotels[n],
            hidden_land=land,
            loose_land=land,
        )

    def change(self) -> None:
        """Everything becomes something else, at second 10."""
        for n in range(3):
            RelCapital.objects(name=f"C{n}").update(mayor=f"other mayor {n}")
            RelLand.objects(code=f"L{n}").update(name=f"other land {n}")
            RelPerson.objects(name=f"person {n}").update(name=f"other person {n}")
            RelHotel.objects(name=f"H{n}").update(stars=10 + n)
            RelPort.objects(icao=f"P{n}").update(name=f"other port {n}", unset__land=1)
        self.clock.tick()

    def delete(self) -> None:
        """Nothing of it is left, at second 10."""
        for document_class in CLASSES:
            document_class.objects.delete()
        self.clock.tick()


@pytest.fixture
def world(clock: _Clock) -> _World:
    return _World(clock)


@pytest.fixture
def changed(world: _World) -> _World:
    world.change()
    return world


def _documents() -> dict[str, list[dict[str, Any]]]:
    """All that the database holds, without the history."""
    database = mongoengine.get_db()
    names = sorted(name for name in database.list_collection_names() if name != HISTORY)
    return {name: list(database[name].find(sort=[("_id", 1)])) for name in names}


def _differing(before: dict[str, Any], after: dict[str, Any]) -> set[Any]:
    """The keys of documents that are not what they were."""
    found: set[Any] = set()
    for name in before.keys() | after.keys():
        one = {repr(document["_id"]): document for document in before.get(name, [])}
        other = {repr(document["_id"]): document for document in after.get(name, [])}
        found |= {
            (one.get(key) or other[key])["_id"]
            for key in one.keys() | other.keys()
            if one.get(key) != other.get(key)
        }
    return found


def _names(shape: Any) -> Any:
    """What was followed to, by name."""
    if isinstance(shape, list):
        return [_names(one) for one in shape]
    if isinstance(shape, dict):
        return {key: _names(one) for key, one in shape.items()}
    return None if shape is None else shape["name"]


# -- as they were ------------------------------------------------------------------------------------------------------


def _followed(n: int) -> list[tuple[str, Any]]:
    """Every kind of relation of port n, and the names of what it led to at second 1."""
    land, other, third = (f"land {(n + k) % 3}" for k in range(3))
    person, second, last = (f"person {(n + k) % 3}" for k in range(3))
    return [
        ("land", land),
        ("ld", land),
        ("lazy", land),
        ("old_style", land),
        ("cached", land),
        ("owner", person),
        ("lazy_owner", land),
        ("lands", [land, other]),
        ("lazy_lands", [land, other]),
        ("cached_lands", [land]),
        ("owners", [person, land]),
        ("nested", [[land], [other, land]]),
        ("by_role", {"head": person, "deputy": second}),
        ("by_role.*", {"head": person, "deputy": second}),
        ("by_role.deputy", second),
        ("by_role.nobody", None),
        ("anything", {"note": None, "home": land}),
        ("anything.home", land),
        ("runways.surveyor", [person, None]),
        ("runways.crew", [[person, second], []]),
        ("rw.sv", [person, None]),
        ("main.surveyor", second),
        ("by_name.*.surveyor", {"north": person, "south": second}),
        ("by_name.north.surveyor", person),
        ("next_port", None),
        ("runways.surveyor.land", [land, None]),
        ("runways.surveyor.chief", [second, None]),
        ("by_role.head.chief.chief", last),
        ("lands.neighbours", [[other, third], [third, land]]),
        ("owners.land", [land, None]),
    ]


@pytest.mark.parametrize("n", range(3))
def test_follow_gives_what_a_relation_led_to_then(changed: _World, n: int) -> None:
    """Every kind of reference leads to the version in force then, in the shape that the relation had."""
    for relation, expected in _followed(n):
        assert _names(changed.v[n].follow(relation)) == expected, relation
    found = changed.v[n].follow("land")
    assert isinstance(found, Version)
    assert (found.document_id, found.document_class) == (f"L{n}", RelLand)
    assert found == history_of(RelLand, f"L{n}").version_at(changed.made)


@pytest.mark.parametrize("n", range(3))
def test_follow_when_all_is_gone(world: _World, n: int) -> None:
    """Documents that are deleted since were there then."""
    world.delete()
    for relation, expected in _followed(n):
        assert _names(world.v[n].follow(relation)) == expected, relation


@pytest.mark.parametrize("n", range(3))
def test_follow_later_versions_lead_to_later_states(changed: _World, n: int) -> None:
    """The moment is that of the version followed from."""
    RelPort.objects(icao=f"P{n}").update(name="third")
    last = history_of(RelPort, f"P{n}")[-1]
    assert last.follow("lazy")["name"] == f"other land {n}"
    assert last.follow("lazy.capital")["mayor"] == f"other mayor {n}"
    assert last.follow("land") is None
    assert changed.v[n].follow("land.capital")["mayor"] == f"mayor {n}"
    assert changed.v[n].follow("lands.capital.land")[1]["name"] == f"land {(n + 1) % 3}"


@pytest.mark.parametrize("n", range(3))
def test_follow_to_what_is_not_tracked(changed: _World, n: int) -> None:
    """The live document, and it says so; what lies behind it is as of the moment."""
    found = changed.v[n].follow("hotel")
    assert isinstance(found, LiveDocument)
    assert (found.document_class, found.document_id, found["stars"]) == (RelHotel, f"H{n}", 10 + n)
    assert found.document.stars == 10 + n
    assert changed.v[n].follow("hotel.land")["name"] == f"land {n}"
    RelHotel.objects(name=f"H{n}").delete()
    gone = changed.v[n].follow("hotel")
    assert gone == VanishedDocument(RelHotel, "RelHotel", f"H{n}")
    assert not gone
    assert changed.v[n].follow("hotel.land") == gone


def test_follow_to_what_did_not_exist(world: _World) -> None:
    """Neither yet, nor any more, nor ever: each is marked, and stays apart from an empty reference."""
    RelLand.objects(code="L1").delete()
    world.clock.tick()
    ports = [
        RelPort(icao="gone", land=DBRef("rel_land", "L1"), lands=[world.lands[0], DBRef("rel_land", "L1")]),
        RelPort(icao="early", land=DBRef("rel_land", "late"), owner=world.people[2]),
        RelPort(icao="never", land=DBRef("rel_land", "nowhere")),
    ]
    for port in ports:
        port.save(validate=False)
    world.clock.tick()
    RelLand(code="late", name="late").save()
    RelLand(code="L1", name="again").save()
    found = {port.icao: history_of(port)[-1] for port in ports}
    assert found["gone"].follow("land") == VanishedDocument(RelLand, "RelLand", "L1")
    assert [bool(one) for one in found["gone"].follow("lands")] == [True, False]
    assert found["early"].follow("land") == VanishedDocument(RelLand, "RelLand", "late")
    assert found["never"].follow("land") == VanishedDocument(RelLand, "RelLand", "nowhere")
    assert found["never"].follow("land.capital") == VanishedDocument(RelLand, "RelLand", "nowhere")
    assert found["never"].follow("lazy") is None


def test_follow_to_a_class_that_is_not_known_any_more(world: _World) -> None:
    """The reference still says what it was called."""
    raw = mongoengine.get_db()["rel_port"]
    for n in range(3):
        raw.update_one({"_id": f"P{n}"}, {"$set": {"ow": {"_cls": "RelGone", "_ref": DBRef("gone", n)}}})
        found = history_of(RelPort, f"P{n}")[-1].follow("owner")
        assert found == VanishedDocument(None, "RelGone", n)


def test_keys_that_the_class_cannot_have(world: _World) -> None:
    """What somebody wrote past MongoEngine leads nowhere, and is no error."""
    raw = mongoengine.get_db()["rel_port"]
    for n, key in enumerate((7, 2.5, {"a": 1})):
        raw.update_one({"_id": f"P{n}"}, {"$set": {"ld": key, "lds": [f"L{n}", key]}})
        version = history_of(RelPort, f"P{n}")[-1]
        assert version.follow("land") == VanishedDocument(RelLand, "RelLand", key)
        assert [bool(one) for one in version.follow("lands")] == [True, False]
        with pytest.raises(DoesNotExist):
            version.document.land  # noqa: B018
        assert version.document.lands[0].name == f"land {n}"


def test_follow_from_a_subclass_and_to_one(world: _World) -> None:
    """Relations of the class that the document is of are known, whatever class was asked."""
    helis = [RelHeliport(icao=f"Q{n}", rescue=world.people[n]).save() for n in range(3)]
    for n, heli in enumerate(helis):
        assert history_of(RelPort, heli.icao)[-1].follow("rescue")["name"] == f"person {n}"
        chief = history_of(RelPort, heli.icao)[-1].follow("rescue.chief")
        assert chief["name"] == f"person {(n + 1) % 3}"
        assert chief.document.licence is None
        assert isinstance(chief.document, RelSurveyor)


def test_follow_where_only_a_class_below_is_tracked(mongodb: Database) -> None:
    """A reference to an untracked base leads to versions where the document is of a tracked class, else to the live one."""
    with configured():
        track(RelSurveyor)
        track(RelHeliport)
        people = [
            RelSurveyor(key=uuid.UUID(int=1), name="one").save(),
            RelPerson(key=uuid.UUID(int=2), name="two").save(),
            RelSurveyor(key=uuid.UUID(int=3), name="three").save(),
        ]
        ports = [RelHeliport(icao=f"Q{n}", rescue=people[n]).save() for n in range(3)]
        then = [history_of(port)[-1] for port in ports]
        for one in people:
            one.update(set__name="changed")
        people[2].delete()
        first, second, third = (one.follow("rescue") for one in then)
        assert isinstance(first, Version)
        assert first["name"] == "one"
        assert isinstance(second, LiveDocument)
        assert second["name"] == "changed"
        assert third["name"] == "three"
        untrack(RelSurveyor)
        untrack(RelHeliport)


@pytest.mark.parametrize(
    ("relation", "message"),
    [
        ("nowhere", "has no field 'nowhere'"),
        ("runways.nowhere", r"has no field 'runways\.nowhere'"),
        ("land.nowhere", "RelLand has no field 'nowhere'"),
        ("name", "'name' of RelPort.* is no reference"),
        ("runways", "'runways' of RelPort.* is no reference"),
        ("runways.length", "is no reference"),
        ("land.capital.mayor", "'mayor' of RelCapital is no reference"),
        ("land..capital", "'' is no name of a field"),
        ("$where", "is no name of a field"),
    ],
)
def test_what_is_no_relation(changed: _World, relation: str, message: str) -> None:
    """It is refused with the part that is wrong, before anything is read or written, whatever the document holds."""
    before = _documents()
    for n in range(3):
        with pytest.raises(ValueError, match=message):
            changed.v[n].follow(relation)
        with pytest.raises(ValueError, match=message):
            changed.v[n].revert(relations=["lazy", relation])
        with pytest.raises(ValueError, match=message):
            history_of(changed.lands[n]).referring(RelPort, relation)
    assert _documents() == before


def test_behind_a_generic_reference_the_documents_tell(changed: _World) -> None:
    """Classes that have no such field are passed over, as long as one has it; a name that none has is refused."""
    before = _documents()
    for n in range(3):
        for call in (lambda v, name: v.revert(relations=[name]), lambda v, name: v.follow(name)):
            with pytest.raises(ValueError, match="'nowhere' is no reference of RelLand or RelSurveyor"):
                call(changed.v[n], "owners.nowhere")
    assert _documents() == before
    changed.v[0].revert(relations=["owners.chief"])
    assert RelPerson.objects.get(pk=uuid.UUID(int=2)).name == "person 1"


def test_names_and_no_text(changed: _World) -> None:
    """A text instead of a list of names is a mistake, not names of one letter."""
    for n in range(3):
        with pytest.raises(TypeError, match="expected a list of names"):
            changed.v[n].revert(relations="land")


def test_hidden_and_untracked_relations(changed: _World) -> None:
    """What the history does not know it does not follow, in any of the three ways."""
    before = _documents()
    for n in range(3):
        for relation, error in (("hidden_land", HiddenFieldError), ("loose_land", UntrackedFieldError)):
            with pytest.raises(error, match=relation):
                changed.v[n].follow(relation)
            with pytest.raises(error, match=relation):
                changed.v[n].revert(relations=[relation])
            with pytest.raises(error, match=relation):
                history_of(changed.lands[n]).referring(RelPort, relation)
    assert _documents() == before


def test_follow_of_a_delete(world: _World) -> None:
    """A deleted document points nowhere."""
    world.delete()
    assert [history_of(RelPort, f"P{n}")[-1].follow("land") for n in range(3)] == [None] * 3


def test_follow_reads_a_list_at_once(world: _World) -> None:
    """A list of three costs no more commands than one reference."""
    assert [one.follow("next_port") for one in world.v] == [None] * 3  # their own states are read now
    counts = [_commands(lambda n=n: world.v[n].follow("lands")) for n in range(3)]
    singles = [_commands(lambda n=n: world.v[n].follow("land")) for n in range(3)]
    assert counts == singles


# -- back --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["change", "delete"])
@pytest.mark.parametrize("n", range(3))
def test_revert_takes_every_named_relation_along(world: _World, n: int, how: str) -> None:
    """Root and relations are byte for byte what they were, also when they are gone; what was not named is left alone."""
    then = _documents()
    RelHotel.objects.delete()
    getattr(world, how)()
    now = _documents()
    named = ["land.capital", "runways.surveyor", "by_role.*"]
    second = (n + 1) % 3
    made = world.v[n].revert(relations=named)
    assert made is not None
    assert made.revert_of == world.v[n].id
    written = {f"P{n}", f"L{n}", f"C{n}", uuid.UUID(int=n + 1), uuid.UUID(int=second + 1)}
    after = _documents()
    assert _differing(now, after) == written
    hidden = {"hl", "loose_land", "hits"}
    for name in ("rel_port", "rel_land", "rel_capital", "rel_person"):
        expected = {repr(one["_id"]): one for one in then[name]}
        for found in after[name]:
            if found["_id"] in written:
                wanted = expected[repr(found["_id"])]
                kept = {key for key in hidden if how == "change" and key in wanted}
                assert found == {
                    key: value for key, value in wanted.items() if key not in hidden or key in kept
                }


def test_revert_is_one_changeset(changed: _World) -> None:
    """All that one call wrote belongs together, with who and why; the other two ports get none of it."""
    lengths = [len(history_of(port)) for port in changed.ports]
    with changeset(user="ada", reason="back") as c:
        changed.v[1].revert(relations=["lands", "owner"])
    versions = c.versions()
    assert {(one.document_class, one.document_id) for one in versions} == {
        (RelPort, "P1"),
        (RelLand, "L1"),
        (RelLand, "L2"),
        (RelSurveyor, uuid.UUID(int=2)),
    }
    assert {(one.user.pk, one.reason, one.revert_of) for one in versions} == {
        ("ada", "back", changed.v[1].id)
    }
    assert [len(history_of(port)) for port in changed.ports] == [lengths[0], lengths[1] + 1, lengths[2]]
    other = changed.v[2].revert(relations=["lands"])
    assert other is not None
    assert len(other.changeset.versions()) == 2  # land 2 was put back before


@pytest.mark.parametrize("how", ["change", "delete"])
def test_a_revert_with_relations_can_be_taken_back(world: _World, how: str) -> None:
    """Taken back, every document has the bytes that it had before the revert."""
    getattr(world, how)()
    before = _documents()
    for n in range(3):
        with changeset() as c:
            world.v[n].revert(relations=["land.capital", "runways.crew", "owners"])
        assert _differing(before, _documents())
        c.take_back()
        assert _documents() == before


@pytest.mark.parametrize("relation", [one for one, _expected in _followed(0)])
def test_revert_follows_every_kind(changed: _World, relation: str) -> None:
    """Whatever kind of reference leads there, and whatever lies on its way."""
    for n in range(3):
        expected = changed.v[n].follow(relation)
        changed.v[n].revert(relations=[relation])
        for version in _versions(expected):
            now = history_of(version.document_class, version.document_id)[-1]
            assert now.state == version.state


def _versions(shape: Any) -> list[Version]:
    if isinstance(shape, list):
        return [one for part in shape for one in _versions(part)]
    if isinstance(shape, dict):
        return [one for part in shape.values() for one in _versions(part)]
    return [] if shape is None else [shape]


@pytest.mark.parametrize(
    "relation", ["cached", "cached_lands", "lands", "lazy_lands", "owners", "runways.crew"]
)
def test_revert_when_all_is_gone(world: _World, relation: str) -> None:
    """Documents and what they point to come back together, cached references included, and can be loaded."""
    then = {n: world.v[n].follow(relation) for n in range(3)}
    world.delete()
    for n in range(3):
        world.v[n].revert(relations=[relation, "cached", "cached_lands"])
        assert RelPort.objects.get(icao=f"P{n}").name == f"port {n}"
        for version in _versions(then[n]):
            assert history_of(version.document_class, version.document_id)[-1].state == version.state


def test_a_relation_that_was_none_is_none_again(clock: _Clock) -> None:
    """Of a field without a value, with a null, and of one that came later; with nothing else written."""
    lands = [RelLand(code=f"L{n}", name="then").save() for n in range(3)]
    ports = [RelPort(icao=f"P{n}").save() for n in range(3)]
    mongoengine.get_db()["rel_port"].update_one({"_id": "P1"}, {"$set": {"ld": None}})
    first = [history_of(port)[-1] for port in ports]
    clock.tick()
    for port, land in zip(ports, lands, strict=True):
        port.update(set__land=land, set__lands=[land])
        land.update(set__name="now")
    for n in range(3):
        first[n].revert(relations=["land", "lands", "land.capital"])
        raw = mongoengine.get_db()["rel_port"].find_one({"_id": f"P{n}"})
        assert raw == first[n].state
        assert RelPort.objects.get(icao=f"P{n}").land is None
    assert [land.name for land in RelLand.objects.order_by("code")] == ["now"] * 3


def test_cycles_end(world: _World) -> None:
    """Land, capital and land again; neighbours of neighbours; ports in a ring: each is written once."""
    for n in range(3):
        RelPort.objects(icao=f"P{n}").update(next_port=world.ports[(n + 1) % 3])
    ring = [history_of(port)[-1] for port in world.ports]
    world.clock.tick()
    world.change()
    lengths = [len(history_of(port)) for port in world.ports]
    ring[0].revert(
        relations=[
            "next_port.next_port.next_port.next_port.next_port",
            "lazy.capital.land.capital.land",
            "lands.neighbours.neighbours.neighbours",
        ]
    )
    assert [port.name for port in RelPort.objects.order_by("icao")] == ["port 0", "port 1", "port 2"]
    assert [land.name for land in RelLand.objects.order_by("code")] == ["land 0", "land 1", "land 2"]
    assert RelCapital.objects.get(name="C0").mayor == "mayor 0"
    assert [len(history_of(port)) for port in world.ports] == [length + 1 for length in lengths]
    assert [len(history_of(land)) for land in world.lands] == [4, 4, 4]


def test_a_document_that_points_to_itself(world: _World) -> None:
    """Root and relation are one document: it is the root, with its own state."""
    for n in range(3):
        RelPort.objects(icao=f"P{n}").update(next_port=world.ports[n], name="itself")
    own = [history_of(port)[-1] for port in world.ports]
    world.clock.tick()
    world.change()
    for n in range(3):
        assert own[n].revert(fields=["name"], relations=["next_port.next_port"]).changes[0].new == "itself"
        assert RelPort.objects.get(icao=f"P{n}").land is None


def test_conflicts_of_relations(changed: _World) -> None:
    """An untracked target, one that came only later, and one whose state is not known: all are told, nothing is written."""
    database = mongoengine.get_db()
    late = [
        RelPort(icao=f"X{n}", land=changed.lands[n], lazy=f"late {n}", hotel=changed.hotels[n]).save()
        for n in range(3)
    ]
    then = [history_of(port)[-1] for port in late]
    changed.clock.tick()
    for n in range(3):
        RelLand(code=f"late {n}").save()
        for name in ("a", "b", "c"):
            RelLand.objects(code=f"L{n}").update(name=name)
    broken = history_of(RelLand, "L1").version_at(then[1].at)
    database[HISTORY].update_many(
        {"document_id": "L1", "operation": "update"}, {"$set": {"patch": 7}, "$unset": {"snapshot": 1}}
    )
    assert broken is not None
    before = _documents()
    for n in range(3):
        with pytest.raises(ConflictError) as caught:
            then[n].revert(relations=["land", "lazy", "hotel"])
        found = {one.key.document_id: one for one in caught.value.conflicts}
        expected = {f"late {n}", f"H{n}"} | ({"L1"} if n == 1 else set())
        assert found.keys() == expected
        assert "'hotel' pointed to it, and its class is not tracked" in found[f"H{n}"].reason
        assert found[f"H{n}"].label.endswith("test_relations.RelHotel")
        assert "before it existed" in found[f"late {n}"].reason
        assert not any(one.can_be_forced for one in found.values())
    assert _documents() == before


def test_a_target_that_was_deleted_then_is_deleted_again(world: _World) -> None:
    """A reference may have been left behind: then its document goes back to not being there."""
    RelLand.objects.delete()
    world.clock.tick()
    for n in range(3):
        RelPort.objects(icao=f"P{n}").update(name="left behind")
    then = [history_of(port)[-1] for port in world.ports]
    world.clock.tick()
    for n in range(3):
        RelLand(code=f"L{n}", name="again").save()
    then[1].revert(relations=["lazy", "lazy_owner"])
    assert [land.code for land in RelLand.objects] == ["L0", "L2"]
    assert history_of(RelLand, "L1")[-1].operation is Operation.DELETE
    assert then[1].revert(relations=["lazy"]) is None


def test_unique_values_that_changed_hands(clock: _Clock, mongodb: Database) -> None:
    """Relations that hold each other's unique values move together, in one plan with the root."""
    mongodb["rel_land"].create_index("n", unique=True)
    lands = [RelLand(code=f"L{n}", name=f"name {n}").save() for n in range(3)]
    ports = [RelPort(icao=f"P{n}", lands=lands).save() for n in range(3)]
    first = [history_of(port)[-1] for port in ports]
    clock.tick()
    for n in range(3):
        lands[n].update(set__name=f"between {n}")
    for n in range(3):
        lands[n].update(set__name=f"name {(n + 1) % 3}")
    first[2].revert(relations=["lands"])
    assert [land.name for land in RelLand.objects.order_by("code")] == ["name 0", "name 1", "name 2"]


def test_reverting_a_long_list_is_done_in_chunks(clock: _Clock) -> None:
    """Three ports with a hundred lands each: as many commands as for one land, and for each more, none."""
    lands = [RelLand(code=f"L{n:03}", name="then").save() for n in range(300)]
    ports = [RelPort(icao=f"P{n}", lands=lands[n::3], land=lands[n]).save() for n in range(3)]
    first = [history_of(port)[-1] for port in ports]
    clock.tick()
    RelLand.objects.update(name="now")
    few = _commands(lambda: first[0].revert(relations=["land"]))
    many = _commands(lambda: first[1].revert(relations=["lands"]))
    assert many <= few + 2
    assert RelLand.objects(name="then").count() == 101
    first[2].revert(relations=["lands"])
    assert {land.code for land in RelLand.objects(name="now")} == {land.code for land in lands[3::3]}


def test_revert_of_a_delete_follows_nothing(world: _World) -> None:
    """A delete names no relation: the document is deleted again, and nothing else is touched."""
    for n in range(3):
        RelPort.objects(icao=f"P{n}").delete()
        world.clock.tick()
        gone = history_of(RelPort, f"P{n}")[-1]
        gone.previous.revert()
        gone.revert(relations=["land", "lands"])
    assert RelPort.objects.count() == 0
    assert RelLand.objects.count() == 3


def test_relations_of_a_document_older_than_its_history(mongodb: Database) -> None:
    """Its first version answers for all time before, and so do those of what it points to."""
    with configured():
        lands = [RelLand(code=f"L{n}", name=f"land {n}").save() for n in range(3)]
        ports = [RelPort(icao=f"P{n}", land=lands[n]).save() for n in range(3)]
        track(RelLand)
        track(RelPort)
        for n in range(3):
            lands[n].update(set__name="changed")
            ports[n].update(set__name="changed", unset__land=1)
        for n in range(3):
            baseline = history_of(ports[n])[0]
            assert baseline.at is None
            assert baseline.follow("land")["name"] == f"land {n}"
            assert baseline.document.land.name == f"land {n}"
            baseline.revert(relations=["land"])
            assert RelPort.objects.get(icao=f"P{n}").land.name == f"land {n}"
        untrack(RelLand)
        untrack(RelPort)


def test_without_transactions(standalone_mongodb: Database) -> None:
    """Where a server has none, relations are followed and taken along all the same."""
    with configured():
        for document_class in (RelLand, RelPort):
            track(document_class)
        lands = [RelLand(code=f"L{n}", name=f"land {n}").save() for n in range(3)]
        ports = [RelPort(icao=f"P{n}", lands=lands, land=lands[n]).save() for n in range(3)]
        first = [history_of(port)[0] for port in ports]
        for n in range(3):
            lands[n].update(set__name="changed")
        ports[1].delete()
        lands[2].delete()
        first[1].revert(relations=["lands"])
        assert [land.name for land in RelLand.objects.order_by("code")] == ["land 0", "land 1", "land 2"]
        assert RelPort.objects.get(icao="P1").land.name == "land 1"
        assert [len(history_of(port)) for port in ports] == [1, 3, 1]
        for document_class in (RelLand, RelPort):
            untrack(document_class)


# -- documents of a moment ---------------------------------------------------------------------------------------------


class _Counter(monitoring.CommandListener):
    def __init__(self) -> None:
        self.names: list[str] = []

    def started(self, event: Any) -> None:
        self.names.append(event.command_name)

    def succeeded(self, event: Any) -> None: ...

    def failed(self, event: Any) -> None: ...


def _commands(call: Any) -> int:
    """How many commands a call sends."""
    counter = _Counter()
    client = mongoengine.get_db().client
    listeners = client._event_listeners
    was = listeners._EventListeners__command_listeners, listeners._EventListeners__enabled_for_commands
    listeners._EventListeners__command_listeners = [counter]
    listeners._EventListeners__enabled_for_commands = True
    try:
        call()
    finally:
        (listeners._EventListeners__command_listeners, listeners._EventListeners__enabled_for_commands) = was
    return len(counter.names)


def _as_of(moment: datetime, document_class: type = RelPort) -> list[Any]:
    return list(history_of(document_class).as_of(moment))


@pytest.mark.parametrize("how", ["change", "delete"])
def test_as_of_leads_into_its_own_moment(world: _World, how: str) -> None:
    """Every kind of reference of an instance as of a moment leads to the document of that moment, and on from there."""
    getattr(world, how)()
    found = _as_of(world.made)
    assert [port.icao for port in found] == ["P0", "P1", "P2"]
    for n, port in enumerate(found):
        land, other = f"land {n}", f"land {(n + 1) % 3}"
        person, second = f"person {n}", f"person {(n + 1) % 3}"
        assert port.land.name == port.old_style.name == port.cached.name == land
        assert port.land.capital.mayor == f"mayor {n}"
        assert port.land.capital.land.fetch().neighbours[0].name == other
        assert port.lazy.fetch().name == port.lazy_owner.fetch().name == land
        assert (port.lazy.pk, port.lazy.document_type) == (f"L{n}", RelLand)
        assert port.owner.name == person
        assert isinstance(port.owner, RelSurveyor)
        assert [one.name for one in port.lands] == [land, other]
        assert [one.fetch().name for one in port.lazy_lands] == [land, other]
        assert [one.name for one in port.cached_lands] == [land]
        assert [one.name for one in port.owners] == [person, land]
        assert [[one.name for one in part] for part in port.nested] == [[land], [other, land]]
        assert {key: one.name for key, one in port.by_role.items()} == {"head": person, "deputy": second}
        assert (port.anything["home"].name, port.anything["note"]) == (land, 1)
        assert port.runways[0].surveyor.chief.name == second
        assert [one.name for one in port.runways[0].crew] == [person, second]
        assert port.main.surveyor.name == port.by_name["south"].surveyor.name == second
        assert port.next_port is None
        assert port.lands is port.lands
        assert port.land is port.land


def test_as_of_is_lazy(changed: _World) -> None:
    """What nobody looks at costs nothing: not a command more than the raw states take."""
    list(history_of(RelPort).states_as_of(changed.made))
    states = _commands(lambda: list(history_of(RelPort).states_as_of(changed.made)))
    documents: list[Any] = []
    assert _commands(lambda: documents.extend(_as_of(changed.made))) == states
    assert _commands(lambda: [(one.name, one.to_mongo(), one.runways[0].length) for one in documents]) == 0
    assert _commands(lambda: documents[0].land.name) > 0
    assert _commands(lambda: documents[0].land.name) == 0
    assert _commands(lambda: [one.name for one in documents[0].lands]) > 0
    assert _commands(lambda: [one.name for one in documents[0].lands]) == 0
    assert _commands(lambda: documents[1].land.name) > 0


def test_a_document_of_a_version_leads_into_its_moment(changed: _World) -> None:
    """`version.document` is the document of the version's own moment."""
    for n in range(3):
        assert changed.v[n].document.land.name == f"land {n}"
        assert changed.v[n].document.land.capital.mayor == f"mayor {n}"
        last = history_of(RelPort, f"P{n}")[-1].document
        assert last.lazy.fetch().capital.mayor == f"other mayor {n}"


def test_looking_changes_nothing(changed: _World) -> None:
    """What was looked at is stored as it was: the same bytes, no changed field, and no document saved with another."""
    for n, port in enumerate(_as_of(changed.made)):
        fresh = port.to_mongo()
        assert dict(fresh) == {**changed.v[n].state}
        looked = [
            port.land,
            port.lands[1],
            port.owner,
            port.cached,
            port.cached_lands[0],
            port.by_role["head"],
        ]
        looked += [port.runways[0].surveyor, port.lazy.fetch(), port.nested[1][0], port.owners[0]]
        assert len(looked) == 10
        again = port.to_mongo()
        assert {key: value for key, value in again.items() if key != "anything"} == {
            key: value for key, value in fresh.items() if key != "anything"
        }
        assert port._get_changed_fields() == []
        assert port._created


def test_saving_writes_the_document_alone(changed: _World) -> None:
    """A document of a moment is unsaved as before: a save writes it whole, and never what it leads to, cascade or not."""
    lands, people = list(RelLand.objects.as_pymongo()), list(RelPerson.objects.as_pymongo())
    for n, port in enumerate(_as_of(changed.made)):
        assert port.land.name == f"land {n}"
        assert port.lands[0].name == f"land {n}"
        assert port.owner.name == f"person {n}"  # MongoEngine cannot cascade to one that nobody has looked at
        port.save(cascade=n == 1)
        assert history_of(port)[-1].state == changed.v[n].state
    assert list(RelLand.objects.as_pymongo()) == lands
    assert list(RelPerson.objects.as_pymongo()) == people


def test_as_of_where_nothing_was(world: _World) -> None:
    """As with MongoEngine: a single reference that leads nowhere raises DoesNotExist, in lists it stays what is stored."""
    RelLand.objects(code="L1").delete()
    world.clock.tick()
    moment = world.clock.now
    for n in range(3):
        RelPort.objects(icao=f"P{n}").update(name="left behind")
    found = _as_of(moment)
    assert found[0].land.name == "land 0"
    for name in ("land", "old_style", "cached"):
        with pytest.raises(DoesNotExist, match="RelLand 'L1' did not exist at the moment"):
            getattr(found[1], name)
    with pytest.raises(DoesNotExist):
        found[1].lazy.fetch()
    assert [getattr(one, "name", one) for one in found[0].lands] == ["land 0", DBRef("rel_land", "L1")]
    assert found[2].land.name == "land 2"


def test_as_of_what_is_not_tracked_is_live(changed: _World) -> None:
    """Nobody knows what it was, so it is what it is; its own references are live, too."""
    for n, port in enumerate(_as_of(changed.made)):
        assert port.hotel.stars == 10 + n
        assert port.hotel.land.name == f"other land {n}"


def test_live_documents_are_left_alone(changed: _World) -> None:
    """Fields of an instance of a moment are its own: live documents of the same classes lead to the present."""
    for n, port in enumerate(_as_of(changed.made)):
        assert port.lazy.fetch().name == f"land {n}"
        live = RelPort.objects.get(icao=f"P{n}")
        assert live.lazy.fetch().name == live.lands[0].name == live.cached.name == f"other land {n}"
        assert type(RelPort._fields["lands"]) is fields.ListField
        assert type(live._fields["lands"]) is fields.ListField


def test_what_is_assigned_is_what_is_there(changed: _World) -> None:
    """An instance of a moment can be worked with: assigned values are not replaced by those of the moment."""
    for n, port in enumerate(_as_of(changed.made)):
        other = RelLand.objects.get(code=f"L{(n + 2) % 3}")
        port.land = other
        port.cached = other
        port.lands = [other]
        assert port.land is port.cached is other
        assert [one.name for one in port.lands] == [other.name]
        port.lands.append(port.old_style)
        assert [one.name for one in port.lands] == [other.name, f"land {n}"]


def test_no_dereference_is_respected(changed: _World) -> None:
    """MongoEngine's own switch holds for documents of a moment, too."""
    from mongoengine.context_managers import no_dereference

    for n, port in enumerate(_as_of(changed.made)):
        with no_dereference(RelPort):
            assert port.land == DBRef("rel_land", f"L{n}")
        assert port.land.name == f"land {n}"


def test_copies_and_pickles(changed: _World) -> None:
    """They can be copied and pickled; what comes out is an instance without a moment, like any other."""
    for n, port in enumerate(_as_of(changed.made)):
        assert port.land.name == f"land {n}"
        for twin in (copy.deepcopy(port), pickle.loads(pickle.dumps(port))):
            assert twin.to_mongo()["ld"] == f"L{n}"
            assert twin.land.name == f"other land {n}"


# -- the other way -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["change", "delete"])
def test_referring(world: _World, how: str) -> None:
    """Who pointed here then, by every kind of reference: those that do not any more, and those that are gone."""
    getattr(world, how)()
    for n in range(3):
        history = history_of(RelLand, f"L{n}")
        own, other = f"P{n}", f"P{(n + 2) % 3}"
        for relation in ("land", "ld", "lazy", "old_style", "cached", "lazy_owner", "cached_lands", "owners"):
            assert _referring(history, relation, world.made) == [own], relation
        for relation in ("lands", "lazy_lands", "nested", "anything"):
            expected = [own] if relation == "anything" else sorted([own, other])
            assert _referring(history, relation, world.made) == expected, relation
        assert _referring(history, "owner", world.made) == []
        person = history_of(RelSurveyor, uuid.UUID(int=n + 1))
        assert _referring(person, "owner", world.made) == [own]
        assert _referring(person, "runways.surveyor", world.made) == [own]
        assert _referring(person, "main.surveyor", world.made) == [other]
        assert _referring(person, "by_role.*", world.made) == sorted([own, other])
        assert _referring(person, "by_role.head", world.made) == [own]
        assert _referring(history, "land", START - SECOND) == []


def _referring(history: Any, relation: str, at: datetime | None) -> list[Any]:
    return [one.document_id for one in history.referring(RelPort, relation, at=at)]


def test_referring_gives_versions(changed: _World) -> None:
    """In force then; without a moment, those that point here now."""
    for n in range(3):
        history = history_of(changed.lands[n])
        (found,) = history.referring(RelPort, "land", at=changed.made)
        assert found == changed.v[n]
        assert found["name"] == f"port {n}"
        assert list(history.referring(RelPort, "land")) == []
        (now,) = history.referring(RelPort, "lazy")
        assert now["name"] == f"other port {n}"
        assert [one.document_id for one in history.referring(RelCapital, "land", at=changed.made)] == [
            f"C{n}"
        ]


def test_referring_streams(clock: _Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory holds a chunk, and what came past the tracker or without any version is seen as well."""
    from django_mongo_history.reading import relations, scanning

    lands = [RelLand(code=f"L{n}").save() for n in range(3)]
    raw = mongoengine.get_db()["rel_port"]
    raw.insert_many([{"_id": f"R{n:03}", "_cls": "RelPort", "ld": f"L{n % 3}"} for n in range(300)])
    chunks: list[int] = []

    def small(source: Any, **options: Any) -> Iterator[Any]:
        for histories in scanning.scan(source, chunk_size=50, **options):
            chunks.append(len(histories))
            yield histories

    monkeypatch.setattr(relations, "scan", small)
    for n in range(3):
        stream = history_of(lands[n]).referring(RelPort, "land", at=clock.now)
        assert next(stream).document_id == f"R{n:03}"
        assert chunks == [50]
        assert len(list(stream)) == 99
        chunks.clear()


def test_referring_tells_classes_of_one_key_apart(clock: _Clock) -> None:
    """Two documents of one key in two collections are two documents."""
    lands = [RelLand(code=f"K{n}").save() for n in range(3)]
    capitals = [RelCapital(name=f"K{n}").save() for n in range(3)]
    for n in range(3):
        RelPort(icao=f"A{n}", owner=lands[n]).save()
        RelPort(icao=f"B{n}", owner=capitals[n]).save()
    clock.tick()
    for n in range(3):
        assert _referring(history_of(lands[n]), "owner", clock.now) == [f"A{n}"]
        assert _referring(history_of(capitals[n]), "owner", clock.now) == [f"B{n}"]


def test_referring_refuses(world: _World) -> None:
    """An untracked class, a naive moment, and a path that leads through another reference: at once, not while streaming."""
    for land in world.lands:
        history = history_of(land)
        with pytest.raises(NotTrackedError):
            history.referring(RelHotel, "land")
        with pytest.raises(ValueError, match="naive"):
            history.referring(RelPort, "land", at=datetime(2024, 1, 1))  # noqa: DTZ001
        with pytest.raises(ValueError, match="leads through a reference"):
            history.referring(RelPort, "runways.surveyor.land")


def test_other_places(world: _World, mongodb: Database) -> None:
    """A reference that names a collection of its own is followed there."""
    raw = mongodb["rel_land_copy"]
    raw.insert_many([{"_id": f"L{n}", "n": f"copied {n}"} for n in range(3)])
    for n in range(3):
        mongodb["rel_port"].update_one(
            {"_id": f"P{n}"}, {"$set": {"old_style": DBRef("rel_land_copy", f"L{n}")}}
        )
        version = history_of(RelPort, f"P{n}")[-1]
        assert version.follow("old_style")["name"] == f"copied {n}"
        assert version.document.old_style.name == f"copied {n}"
        assert version.follow("land")["name"] == f"land {n}"
