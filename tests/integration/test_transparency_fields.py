"""
Fields that do something of their own when they are read or written: references of every kind, sequences, files, dates,
numbers, choices. Compared by `tests.differential`.
"""

# ruff: noqa: PLW0108 - each call is run at once, by `see`

from __future__ import annotations

import datetime
import enum
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import mongoengine
import pytest
from bson import DBRef, ObjectId
from mongoengine import fields
from mongoengine.base import LazyReference

from tests import differential
from tests.differential import Case, Cases, See, World, key

cases = Cases()
MOMENT = datetime.datetime(2026, 3, 4, 5, 6, 7, 891234, tzinfo=datetime.UTC)


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Keeper(mongoengine.Document):
    name = fields.StringField()
    city = fields.StringField()
    meta = {"collection": "keeper"}


class Ticket(mongoengine.Document):
    """Numbers from a counter, as key and beside it."""

    id = fields.SequenceField(primary_key=True)
    number = fields.SequenceField(sequence_name="tickets_in_all")
    label = fields.SequenceField(value_decorator=lambda value: f"T{value}")
    text = fields.StringField()
    meta = {"collection": "ticket"}


class Stub(mongoengine.EmbeddedDocument):
    number = fields.SequenceField()
    owner = fields.ReferenceField(Keeper)


class Folder(mongoengine.Document):
    """Every way to refer."""

    owner = fields.ReferenceField(Keeper)
    by_dbref = fields.ReferenceField(Keeper, dbref=True)
    lazy = fields.LazyReferenceField(Keeper, passthrough=False)
    passing = fields.LazyReferenceField(Keeper, passthrough=True)
    anything = fields.GenericReferenceField()
    lazy_anything = fields.GenericLazyReferenceField()
    cached = fields.CachedReferenceField(Keeper, fields=["name"])
    several = fields.ListField(fields.ReferenceField(Keeper))
    by_name = fields.MapField(fields.ReferenceField(Keeper))
    stub = fields.EmbeddedDocumentField(Stub)
    any_stub = fields.GenericEmbeddedDocumentField(choices=[Stub])
    meta = {"collection": "folder"}


class Photo(mongoengine.Document):
    file = fields.FileField()
    other = fields.FileField(collection_name="thumbs")
    title = fields.StringField()
    meta = {"collection": "photo"}


class Values(mongoengine.Document):
    """Values that look otherwise in the database than in memory."""

    at = fields.DateTimeField()
    exact = fields.ComplexDateTimeField()
    day = fields.DateField()
    price = fields.DecimalField(precision=2)
    text_price = fields.DecimalField(force_string=True)
    sum = fields.Decimal128Field()
    uid = fields.UUIDField()
    text_uid = fields.UUIDField(binary=False)
    mood = fields.EnumField(Mood)
    data = fields.BinaryField()
    url = fields.URLField()
    mail = fields.EmailField()
    choice = fields.StringField(choices=["a", "b"])
    number = fields.FloatField()
    big = fields.LongField()
    flag = fields.BooleanField(default=False)
    point = fields.PointField()
    pair = fields.GeoPointField()
    ordered = fields.SortedListField(fields.IntField())
    oid = fields.ObjectIdField()
    made = fields.StringField(default=lambda: "made")
    any = fields.DynamicField()
    required = fields.StringField(required=False, null=True)
    meta = {"collection": "values"}


class Cautious(mongoengine.Document):
    """With rules of its own on every level."""

    name = fields.StringField(validation=lambda value: None)
    lines = fields.ListField(fields.StringField(max_length=3), max_length=2)
    meta = {"collection": "cautious"}

    def validate(self, clean: bool = True) -> None:
        super().validate(clean=clean)
        if self.name == "never":
            raise mongoengine.ValidationError("never")


CLASSES = (Keeper, Ticket, Folder, Photo, Values, Cautious)


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with differential.world(request, CLASSES) as made:
        yield made


def owners() -> list[Keeper]:
    return Keeper.objects.insert([Keeper(id=key(n), name=f"o{n}", city="c") for n in (1, 2, 3)])


@cases(images={"atomic": 2, "sync": 2, "standalone": 3})
def sequences(see: See) -> None:
    """As many numbers as without tracking, not one more."""
    one = see(lambda: Ticket(text="a").save())
    see(lambda: Ticket(text="b").save())
    see(lambda: one.save())
    see(lambda: Ticket.objects.insert([Ticket(text="c"), Ticket(text="d")]))
    see(lambda: Ticket.objects.create(text="e"))
    see(lambda: (Ticket.number.get_next_value(), Ticket.number.set_next_value(50)))
    see(lambda: Ticket(text="f").save())
    see(lambda: Ticket(text="never saved").to_mongo())
    see(lambda: Ticket(id=1, text="again").save())
    see(lambda: Ticket(id=1, text="again").save(force_insert=True))
    see(lambda: Ticket.objects(text="g").upsert_one(set__text="g"))
    see(lambda: Ticket.objects(id=2).update(set__text="h"))
    see(lambda: Ticket.objects(text="d").delete())
    see(lambda: Folder(id=key(1), stub=Stub()).save())
    see(lambda: list(mongoengine.get_db()["mongoengine.counters"].find().sort("_id")))


@cases(images=3)
def references(see: See) -> None:
    first, second, third = owners()
    folder = see(
        lambda: Folder(
            id=key(9), owner=first, by_dbref=second, several=[first, second], by_name={"k": third}
        ).save()
    )
    folder.owner = second
    folder.several.append(third)
    folder.by_name["j"] = first
    see(folder.save)
    loaded = Folder.objects.get()
    see(lambda: (loaded.owner, loaded.by_dbref, loaded.several, loaded.by_name))
    loaded.owner.name = "changed"
    see(loaded.save)
    see(lambda: loaded.save(cascade=True))
    see(lambda: loaded.cascade_save())
    see(lambda: Folder.objects(owner=second).update(set__owner=third))
    see(lambda: Folder.objects(by_dbref=second).update_one(unset__by_dbref=1))
    see(lambda: Folder.objects(several=third).modify(pull__several=third))
    see(lambda: Folder(owner=Keeper(name="unsaved")).save())
    see(lambda: Folder(owner=DBRef("keeper", key(77))).save(validate=False))
    third.delete()
    see(lambda: Folder.objects.get(id=key(9)).owner)
    see(lambda: Folder.objects.select_related())
    see(lambda: Folder.objects.no_dereference().first()._data)


@cases(images=1)
def lazy_references(see: See) -> None:
    first, second, _third = owners()
    folder = see(lambda: Folder(id=key(9), lazy=first, passing=second, lazy_anything=first).save())
    loaded = Folder.objects.get()
    see(lambda: isinstance(loaded.lazy, LazyReference))
    see(lambda: (loaded.lazy.pk, loaded.lazy.fetch(), loaded.passing.name))
    see(lambda: loaded.lazy_anything.fetch())
    loaded.lazy = second
    loaded.passing = LazyReference(Keeper, first.pk)
    see(loaded.save)
    see(folder.reload)
    see(lambda: Folder.objects(lazy=second).update(set__lazy=first.pk))
    second.delete()
    see(lambda: Folder.objects.get().lazy.fetch())


@cases(images=1)
def generic_references(see: See) -> None:
    first, second, _third = owners()
    ticket = Ticket(text="t").save()
    folder = see(lambda: Folder(id=key(9), anything=first, any_stub=Stub(number=3)).save())
    folder.anything = ticket
    see(folder.save)
    see(lambda: Folder.objects.get().anything)
    see(lambda: Folder.objects(anything=ticket).update(set__anything=second))
    see(lambda: Folder.objects.get().to_mongo())
    see(lambda: Folder(anything="no document").save())


@cases(images=4)
def cached_references(see: See) -> None:
    """A saved owner writes what its folders keep of it: through a signal, on the other class."""
    first, second, _third = owners()
    folder = see(lambda: Folder(id=key(9), cached=first).save())
    first.name = "renamed"
    see(first.save)
    see(folder.reload)
    see(lambda: Folder.objects(cached=first).count())
    folder.cached = second
    see(folder.save)
    see(lambda: Folder.cached.sync_all())
    see(lambda: Folder.objects.get().cached)


@cases(images=None)
def files(see: See) -> None:
    """Bytes go past the class; what the document says of them is its own."""
    photo = Photo(id=key(1), title="p")
    see(lambda: photo.file.put(b"first", content_type="image/png", filename="a.png", _id=key(50)))
    see(photo.save)
    loaded = Photo.objects.get()
    see(lambda: (loaded.file.read(), loaded.file.content_type, loaded.file.filename, loaded.file.length))
    see(lambda: loaded.file.replace(b"second", _id=key(51)))
    see(loaded.save)
    see(lambda: loaded.other.put(b"third", _id=key(52)))
    see(loaded.save)
    see(lambda: Photo.objects.get().other.read())
    see(lambda: loaded.file.delete())
    see(loaded.save)
    see(lambda: bool(Photo.objects.get().file))
    see(lambda: Photo.objects.get().delete())
    see(
        lambda: [
            mongoengine.get_db()[name].count_documents({})
            for name in ("fs.files", "fs.chunks", "thumbs.files")
        ]
    )
    other = Photo(id=key(2))
    other.file.new_file(_id=key(53))
    other.file.write(b"streamed")
    other.file.close()
    see(other.save)
    see(lambda: Photo.objects(id=key(2)).delete())


@cases
def values(see: See) -> None:
    given: dict[str, Any] = {
        "at": MOMENT,
        "exact": MOMENT.replace(tzinfo=None),
        "day": MOMENT.date(),
        "price": "10.236",
        "text_price": Decimal("10.2300"),
        "sum": Decimal("1.10"),
        "uid": uuid.UUID(int=7),
        "text_uid": uuid.UUID(int=8),
        "mood": Mood.BAD,
        "data": b"\x00\xff",
        "url": "http://example.org/a",
        "mail": "a@example.org",
        "choice": "a",
        "number": 3,
        "big": 2**40,
        "flag": True,
        "point": [1, 2],
        "pair": [1.5, 2.5],
        "ordered": [3, 1, 2],
        "oid": key(5),
        "any": {"x": [1, {"y": None}]},
        "required": None,
    }
    one = see(lambda: Values(id=key(1), **given).save())
    see(lambda: Values.objects.get())
    see(one.reload)
    for name, value in given.items():
        see(lambda name=name: Values.objects(id=key(1)).update(**{f"unset__{name}": 1}))
        see(lambda name=name, value=value: Values.objects(id=key(1)).update(**{f"set__{name}": value}))
        see(lambda name=name, value=value: Values.objects(**{name: value}).count())
    one.ordered.append(0)
    one.any["x"].append(4)
    one.made = None
    one.flag = None
    see(one.save)
    see(lambda: Values.objects(point__near=[1, 2], point__max_distance=100000).count())
    for name, wrong in (
        ("at", "no date"),
        ("price", "x"),
        ("uid", "x"),
        ("mood", "ugly"),
        ("url", "x"),
        ("mail", "x"),
        ("choice", "c"),
    ):
        see(lambda name=name, wrong=wrong: Values(**{name: wrong}).save())
        see(lambda name=name, wrong=wrong: Values.objects(id=key(1)).update(**{f"set__{name}": wrong}))


@cases
def validation(see: See) -> None:
    see(lambda: Cautious(id=key(1), name="never").save())
    see(lambda: Cautious(id=key(1), name="never").save(validate=False))
    see(lambda: Cautious(id=key(2), lines=["abcd"]).save())
    see(lambda: Cautious(id=key(3), lines=["a", "b", "c"]).save())
    see(lambda: Cautious.objects.insert(Cautious(id=key(4), lines=["abcd"]), load_bulk=False))
    see(lambda: Cautious.objects(id=key(4)).update(push__lines="too long"))
    one = Cautious.objects.get(id=key(4))
    one.name = "x"
    see(one.save)
    see(lambda: one.validate())
    see(lambda: one.clean())


@cases
def embedded(see: See) -> None:
    folder = Folder(id=key(1), stub=Stub(number=1)).save()
    folder.stub.number = 5
    see(folder.save)
    see(lambda: folder.stub._instance is folder)
    folder.stub = None
    see(folder.save)
    see(lambda: Stub(number=9).save())
    see(lambda: folder.stub is None)
    see(lambda: ObjectId.is_valid(str(folder.pk)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@cases.test()
def test_fields(world: World, one: Case) -> None:
    world.compare(one)
