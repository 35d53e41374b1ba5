"""
Documents and querysets, tracked and not: every public method, compared by `tests.differential`.

In `images` stands how many reads more than plain the database of the documents gets: one for the states before a write
of many documents, one for the states after an operator other than `$set` and `$unset`. In `again` stands how many
writes fail and are asked for their error once more. What is not named is 0, and everything else is equal.
"""

# ruff: noqa: PLW0108 - each call is run at once, by `see`

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import mongoengine
import pymongo
import pytest
from mongoengine import Q, fields, signals
from mongoengine.context_managers import (
    no_dereference,
    no_sub_classes,
    query_counter,
    switch_collection,
    switch_db,
)
from mongoengine.queryset.manager import queryset_manager
from mongoengine.queryset.queryset import QuerySet
from pymongo import ReadPreference

from tests import differential
from tests.differential import Case, Cases, See, World, key

cases = Cases()


class Spoon(mongoengine.EmbeddedDocument):
    size = fields.IntField()
    label = fields.StringField(db_field="lb")


class RecipeSet(QuerySet):
    """A queryset of one's own."""

    def quick(self) -> Any:
        return self.filter(minutes__lt=20)


class Recipe(mongoengine.Document):
    """Generated ids, aliases, defaults, a hook, lists and dicts."""

    title = fields.StringField(db_field="ti", required=True, max_length=30)
    minutes = fields.IntField(default=10, min_value=0)
    steps = fields.ListField(fields.StringField())
    spoons = fields.EmbeddedDocumentListField(Spoon)
    spoon = fields.EmbeddedDocumentField(Spoon)
    notes = fields.DictField()
    code = fields.StringField(unique=True, sparse=True)
    cook = fields.ReferenceField("Cook")

    meta = {
        "collection": "recipe",
        "queryset_class": RecipeSet,
        "indexes": ["minutes", {"fields": ["$title"]}],
    }

    def clean(self) -> None:
        if self.title == "unclean":
            raise mongoengine.ValidationError("no unclean titles")
        if self.title:
            self.title = self.title.strip()

    @queryset_manager
    def slow(doc_cls, queryset: Any) -> Any:  # noqa: N805
        return queryset.filter(minutes__gte=20)


class Cook(mongoengine.Document):
    name = fields.StringField()
    best = fields.ReferenceField("Recipe", reverse_delete_rule=mongoengine.NULLIFY)
    meta = {"collection": "cook", "cascade": True}


class Kitchen(mongoengine.Document):
    """Every delete rule; a key of its own."""

    number = fields.IntField(primary_key=True)
    chief = fields.ReferenceField(Cook, reverse_delete_rule=mongoengine.DENY)
    cooks = fields.ListField(fields.ReferenceField(Cook, reverse_delete_rule=mongoengine.PULL))
    closed = fields.ReferenceField(Cook, reverse_delete_rule=mongoengine.CASCADE)
    seats = fields.IntField()
    meta = {"collection": "kitchen", "ordering": ["-number"]}


class Drink(mongoengine.Document):
    """A base."""

    name = fields.StringField()
    meta = {"collection": "drink", "allow_inheritance": True}


class Tea(Drink):
    leaves = fields.StringField()


class GreenTea(Tea):
    colour = fields.IntField()


class Scrap(mongoengine.DynamicDocument):
    meta = {"collection": "scrap"}


class Strict(mongoengine.Document):
    """Loads documents with fields that it does not know."""

    a = fields.IntField()
    meta = {"collection": "strict", "strict": False, "auto_create_index_on_save": True, "indexes": ["a"]}


class Menu(mongoengine.Document):
    """A unique name of two parts, and a shard key."""

    place = fields.StringField(unique_with="day")
    day = fields.IntField()
    text = fields.StringField()
    meta = {"collection": "menu", "shard_key": ("place",)}


CLASSES = (Recipe, Cook, Kitchen, Drink, Scrap, Strict, Menu)


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with differential.world(request, CLASSES) as made:
        yield made


def recipe(number: int = 1, **values: Any) -> Recipe:
    given: dict[str, Any] = {
        "title": f"soup {number}",
        "minutes": number * 10,
        "steps": ["cut", "boil"],
        **values,
    }
    return Recipe(pk=key(number), **given)


def three() -> None:
    Recipe.objects.insert([recipe(number) for number in (1, 2, 3)])


# -- save ------------------------------------------------------------------------------------------------------------


@cases
def save_new(see: See) -> None:
    made = see(lambda: Recipe(title=" pie ", steps=["bake"]).save())
    assert made.pk is not None
    see(lambda: Recipe.objects(pk=made.pk).get())


@cases()
def save_new_with_key(see: See) -> None:
    see(lambda: recipe(1).save())
    see(lambda: recipe(1, title="another").save())
    see(lambda: recipe(1, title="third").save(force_insert=True))
    see(lambda: Kitchen(number=1).save())
    see(lambda: Kitchen(number=1, seats=2).save())


@cases
def save_changes(see: See) -> None:
    one = recipe(1).save()
    one.minutes = 99
    one.steps.append("serve")
    one.notes["where"] = {"a": 1}
    see(one.save)
    one.steps[0] = "peel"
    del one.notes["where"]
    see(one.save)
    one.spoon = Spoon(size=1, label="x")
    see(one.save)
    one.spoon.label = "y"
    one.spoons.append(Spoon(size=4))
    see(one.save)
    one.spoons[0].size = 5
    one.spoon = None
    see(one.save)
    see(one.save)
    see(lambda: one._get_changed_fields())
    see(one.reload)


@cases(images={"atomic": 1})
def save_with_assigned_key(see: See) -> None:
    recipe(1, notes={"a": 1}, code="c").save()
    other = Recipe(title="from nothing")
    other.id = key(1)
    see(other.save)
    third = Recipe(title="made by an update")
    third.pk = key(9)
    see(third.save)


@cases(images={"atomic": 1})
def save_of_one_deleted_meanwhile(see: See) -> None:
    one = recipe(1).save()
    Recipe.objects.delete()
    one.title = "half"
    see(one.save)


@cases
def save_validates(see: See) -> None:
    see(lambda: Recipe().save())
    see(lambda: Recipe(title="x" * 40).save())
    see(lambda: Recipe(title="unclean").save())
    see(lambda: Recipe(title="unclean").save(clean=False))
    see(lambda: Recipe(title="x" * 40, minutes=-5).save(validate=False))
    see(lambda: Recipe(title="x", minutes="abc").save(validate=False))
    see(lambda: Recipe(title="x", cook=Cook(name="unsaved")).save())
    see(lambda: Recipe(title="x", nothing=3).save())
    see(lambda: Recipe(title=5).save(validate=False))


@cases
def save_condition(see: See) -> None:
    one = recipe(1).save()
    one.title = "new"
    see(lambda: one.save(save_condition={"minutes": 77}))
    see(lambda: one.save(save_condition={"minutes": 10}))
    see(lambda: one.save(save_condition={"minutes": 77}))
    one.title = "newer"
    see(lambda: one.save(save_condition={"no_such": 1}))
    see(lambda: recipe(5).save(save_condition={"minutes": 77}))


@cases(again={"atomic": 2, "sync": 2, "standalone": 2})
def save_of_duplicates(see: See) -> None:
    recipe(1, code="a").save()
    see(lambda: recipe(2, code="a").save())
    see(lambda: Recipe(title="t", code="a").save())
    see(lambda: recipe(3, code="a").save(force_insert=True))
    second = recipe(2, code="b").save()
    second.code = "a"
    see(second.save)
    see(lambda: second._get_changed_fields())
    see(lambda: recipe(1, code="b").save())
    Menu(place="p", day=1).save()
    see(lambda: Menu(place="p", day=1).save())
    see(lambda: Menu(place="p", day=2).save())


@cases(again={"standalone": 1})
def save_arguments(see: See) -> None:
    see(lambda: recipe(1).save(write_concern={"w": 1}))
    see(lambda: recipe(2).save(write_concern={"w": 1, "j": True}))
    see(lambda: recipe(3).save(signal_kwargs={"more": 5}))
    see(lambda: recipe(4).save(write_concern={"w": "nobody"}))
    see(lambda: recipe(5).save(write_concern={"bad": 1}))
    see(lambda: recipe(6).save(write_concern={"w": -1}))
    see(lambda: recipe(7).save(force_insert=True, write_concern={"w": 1, "wtimeout": 500}))


@cases(images=2, modes=("atomic", "sync"))
def save_with_unmet_concern(see: See) -> None:
    """A standalone server refuses it otherwise."""
    one = recipe(1).save()
    one.title = "unmet"
    see(lambda: one.save(write_concern={"w": 3, "wtimeout": 50}))
    see(lambda: recipe(2).save(force_insert=True, write_concern={"w": 3, "wtimeout": 50}))
    see(lambda: Recipe.objects.update(set__minutes=1, write_concern={"w": 3, "wtimeout": 50}))
    see(lambda: Recipe.objects.delete(write_concern={"w": 3, "wtimeout": 50}))


@cases(images=1)
def save_unacknowledged(see: See) -> None:
    see(lambda: recipe(1).save(write_concern={"w": 0}))
    see(lambda: Recipe.objects.count())
    one = Recipe.objects.get()
    one.title = "quiet"
    see(lambda: one.save(write_concern={"w": 0}))
    see(lambda: Recipe.objects(pk=key(1)).update(set__title="q", write_concern={"w": 0}))
    see(lambda: Recipe.objects(pk=key(1)).update(set__title="r", write_concern={"w": 0}, full_result=True))
    see(lambda: Recipe.objects(pk=key(1)).delete(write_concern={"w": 0}))
    see(lambda: Recipe.objects.count())


@cases
def cascades(see: See) -> None:
    cook = Cook(name="c", best=recipe(1).save()).save()
    cook.best.title = "changed"
    see(cook.save)
    cook.best.title = "again"
    cook.name = "d"
    see(lambda: cook.save(cascade=False))
    see(lambda: cook.save(cascade=True, cascade_kwargs={"write_concern": {"w": 1}}))
    cook.best.title = "x" * 50
    see(cook.save)
    see(lambda: cook.cascade_save(validate=False))
    see(lambda: cook.cascade_save())


@cases
def receivers_that_raise(see: See) -> None:
    """A document that was written stays written, and dirty."""

    def complain(sender: Any, document: Any, **_kwargs: Any) -> None:
        raise LookupError(f"no {document.title}")

    one = recipe(1).save()
    for signal in (signals.pre_save, signals.pre_save_post_validation, signals.post_save):
        one.title = f"{one.title}!"
        with signal.connected_to(complain, sender=Recipe):
            see(one.save)
        see(lambda: one._get_changed_fields())
        see(lambda: Recipe.objects.get().title)
    see(one.save)


@cases
def receivers_that_change(see: See) -> None:
    def change(sender: Any, document: Any, **_kwargs: Any) -> None:
        document.notes["n"] = document.notes.get("n", 0) + 1

    with signals.pre_save_post_validation.connected_to(change, sender=Recipe):
        one = see(lambda: recipe(1).save())
        see(one.save)
        one.title = "b"
        see(one.save)


@cases(images=1)
def receivers_that_write(see: See) -> None:
    def write(sender: Any, document: Any, **_kwargs: Any) -> None:
        Cook(id=key(7), name=document.title).save()
        Cook.objects(id=key(7)).update(rename__name="was")

    with signals.post_save.connected_to(write, sender=Recipe):
        see(lambda: recipe(1).save())
    see(lambda: list(Cook.objects.as_pymongo()))


# -- documents besides save ------------------------------------------------------------------------------------------


@cases(images=2)
def document_update(see: See) -> None:
    one = recipe(1).save()
    see(lambda: one.update(title="b"))
    see(lambda: one.update(inc__minutes=4))
    see(lambda: one.update(push__steps="c", full_result=True))
    see(lambda: one.update(set__notes__a__b=3))
    see(lambda: one.update(unset__notes=1, upsert=False))
    see(lambda: one.update())
    see(lambda: one.update(add_to_set__steps="c", multi=True))
    see(lambda: one.update(bogus=1))
    see(lambda: one.title)
    see(one.reload)
    see(lambda: Recipe(title="x").update(title="y"))


@cases(images={"atomic": 2, "sync": 1, "standalone": 2})
def document_update_that_upserts(see: See) -> None:
    see(lambda: Scrap(a=1).update(upsert=True, set__b=2))
    see(lambda: Kitchen(number=3).update(upsert=True, set__seats=2))
    see(lambda: Kitchen(number=3).update(upsert=True, set__seats=3, full_result=True))


@cases(images=4)
def document_modify(see: See) -> None:
    one = recipe(1).save()
    one.title = "unsaved"
    see(lambda: one.modify(inc__minutes=1))
    see(lambda: one)
    see(lambda: one.modify({"minutes": 99}, set__title="no"))
    see(lambda: one.modify({"minutes": 11}, set__title="yes", push__steps="z"))
    see(lambda: one)
    see(lambda: one.modify({"id": key(8)}, set__title="no"))
    see(lambda: one.modify(query=Q(minutes=11), inc__minutes=1))
    see(lambda: Recipe(title="t").modify(set__title="u"))
    see(lambda: one.modify(push__no_such=3))
    see(lambda: one.modify(upsert=True, pull__steps="cut"))
    see(lambda: one.modify(__raw__=[{"$set": {"ti": {"$concat": ["$ti", "!"]}}}]))
    see(lambda: one)
    Recipe.objects.delete()
    see(lambda: one.modify(set__title="gone"))


@cases(images=7)
def document_delete(see: See) -> None:
    three()
    one = Recipe.objects.get(pk=key(1))
    see(one.delete)
    see(one.delete)
    see(lambda: one.pk)
    see(lambda: Recipe.objects.get(pk=key(2)).delete(w=1))
    see(lambda: Recipe.objects.get(pk=key(3)).delete(signal_kwargs={"a": 1}, w=1, j=True))
    see(lambda: Recipe(title="never saved").delete())
    see(lambda: recipe(4).delete())
    see(lambda: recipe(4).save().delete(w="nobody"))


cases(document_delete, images=7, receivers=True)


@cases
def reload(see: See) -> None:
    one = recipe(1).save()
    Recipe.objects.update(set__title="outside", set__minutes=3)
    one.title = "inside"
    see(lambda: one.reload("minutes"))
    see(one.reload)
    see(lambda: one.reload("nothing"))
    see(lambda: one.reload(max_depth=2))
    Recipe.objects.delete()
    see(one.reload)
    see(lambda: Recipe(title="a").reload())


@cases(images={"atomic": 4, "sync": 3, "standalone": 3})
def switching(see: See) -> None:
    one = recipe(1).save()
    see(lambda: one.switch_db("other").save())
    see(lambda: (one._get_db().name == Recipe._get_db().name, one._get_collection().name))
    with switch_db(Recipe, "other") as Other:  # noqa: N806
        see(lambda: Other.objects(pk=key(1)).update(title="there"))
        see(lambda: Other.objects.count())
        see(lambda: recipe(5).save())
    see(lambda: Recipe.objects(pk=key(1)).get().title)
    with switch_collection(Recipe, "recipe_old") as Old:  # noqa: N806
        see(lambda: Old._get_collection().name)
        see(lambda: recipe(6).save())
        see(lambda: Old.objects.delete())
    see(lambda: Recipe._get_collection().full_name.partition(".")[2])
    two = recipe(2).save()
    two.switch_collection("recipe_archive")
    two.title = "archived"
    see(two.save)
    see(lambda: two.switch_collection("recipe_archive", keep_created=False).save())
    see(two.delete)
    see(lambda: Recipe.objects.using("other").update(set__minutes=5, multi=False))
    see(lambda: Recipe.objects.using("nowhere").update(set__minutes=5))
    see(lambda: recipe(3).switch_db("nowhere"))


@cases(modes=("atomic",))
def identities(see: See) -> None:
    see(lambda: Recipe._get_collection() is Recipe._get_collection())
    see(lambda: Recipe._collection is Recipe._get_collection())
    see(lambda: Recipe.objects._collection is Recipe._get_collection())
    see(lambda: Recipe._get_collection() == Recipe._get_db()["recipe"])
    see(lambda: Recipe._get_db()["recipe"] == Recipe._get_collection())
    see(lambda: Recipe._get_collection() != Cook._get_collection())
    see(lambda: Recipe._get_collection() == 5)
    see(lambda: hash(Recipe._get_collection()) == hash(Recipe._get_db()["recipe"]))
    see(lambda: {Recipe._get_collection(): 1}[Recipe._get_db()["recipe"]])
    see(lambda: isinstance(Recipe._get_collection(), pymongo.collection.Collection))
    see(lambda: Tea._get_collection() is Drink._get_collection())
    see(
        lambda: (
            Recipe._get_collection().name,
            Recipe._get_collection_name(),
            Recipe._get_db() == mongoengine.get_db(),
        )
    )
    see(lambda: Recipe._get_collection().full_name == f"{Recipe._get_db().name}.recipe")
    see(lambda: Recipe._get_collection().database is Recipe._get_db())
    see(lambda: Recipe._get_collection().with_options() == Recipe._get_collection())
    see(lambda: Recipe._get_collection().sub.name)
    see(lambda: Recipe._get_collection()["sub"].full_name.partition(".")[2])
    for name in ("plain", "images", "subject", "record", "run", "store"):
        see(lambda name=name: getattr(Recipe._get_collection(), name).name)
    see(lambda: Recipe._get_collection().sub.insert_one({"_id": 1}))
    Recipe._disconnect()
    see(lambda: Recipe._collection)
    see(lambda: Recipe.objects.count())
    see(lambda: [Recipe, hasattr(Recipe, "objects"), Recipe.__name__, Recipe.__module__, Recipe.__mro__])
    see(lambda: sorted(Recipe._fields))
    see(lambda: sorted(Recipe._meta.items(), key=str))


@cases(modes=("atomic",))
def copies_and_pickles(see: See) -> None:
    three()
    one = Recipe.objects.first()
    see(lambda: copy.copy(one))
    see(lambda: copy.deepcopy(one))
    see(lambda: pickle.loads(pickle.dumps(one)))
    see(lambda: pickle.loads(pickle.dumps(one)) == one)
    see(lambda: copy.deepcopy(Recipe.objects(minutes=10)))
    see(lambda: copy.copy(Recipe.objects(minutes=10)))
    see(lambda: pickle.dumps(Recipe.objects) is None)
    see(lambda: pickle.dumps(Recipe._get_collection()) is None)
    see(lambda: copy.deepcopy(Recipe._get_collection()) is None)
    see(lambda: copy.copy(Recipe._get_collection()) == Recipe._get_collection())
    changed = copy.deepcopy(one)
    changed.title = "copied"
    see(changed.save)
    kept = pickle.loads(pickle.dumps(one))
    kept.title = "pickled"
    see(kept.save)
    see(lambda: (one == kept, hash(one) == hash(kept), one != Recipe(title="t"), one in [kept, None]))


@cases(images={"atomic": 1})
def from_json_and_from_son(see: See) -> None:
    text = recipe(1).to_json()
    see(lambda: Recipe.from_json(text).save())
    made = Recipe.from_json(text, created=True)
    made.title = "created"
    see(made.save)
    loose = Recipe.from_json(f'{{"_id": {{"$oid": "{key(4)}"}}, "ti": "loose"}}')
    see(loose.save)
    son = Recipe._from_son({"_id": key(5), "ti": "son"}, created=False)
    son.title = "of a son"
    see(son.save)
    see(lambda: Recipe._from_son({"_id": key(6), "ti": "son"}, created=True).save())
    see(lambda: Recipe._from_son(["no mapping"]))
    see(lambda: Recipe._from_son({"_id": key(6), "unknown": 1}))
    see(lambda: Recipe.objects.from_json("[]"))
    see(lambda: Recipe.objects.to_json())


@cases
def partly_loaded(see: See) -> None:
    three()
    one = Recipe.objects.only("title").get(pk=key(1))
    one.title = "only"
    see(one.save)
    two = Recipe.objects.exclude("title", "steps").get(pk=key(2))
    two.minutes = 1
    see(two.save)
    see(lambda: Recipe.objects.only("minutes").get(pk=key(3)).save())
    third = Recipe.objects.fields(slice__steps=1).get(pk=key(3))
    third.steps = ["all", "new"]
    see(third.save)
    see(lambda: Recipe.objects.only("no_such").first())


@cases(images=1)
def dynamic(see: See) -> None:
    see(lambda: Scrap(id=key(1), a=1, b={"c": [1, 2]}).save())
    one = Scrap.objects.get()
    one.d = 5
    del one.a
    one.b["c"].append(3)
    see(one.save)
    see(lambda: one.update(set__e=9))
    see(lambda: Scrap.objects(e=9).update(unset__e=1))
    see(lambda: Scrap.objects(e=9).modify(set__e=10))


@cases
def odd_keys(see: See) -> None:
    one = recipe(1).save()
    one.notes = {"a.b": 1, "$c": 2, "": 3}
    see(lambda: one.save(validate=False))
    see(lambda: Scrap._get_collection().insert_one({"_id": 1, "": 1, "a.b": 2}))
    see(lambda: recipe(2, notes={"$set": 1}).save())
    see(lambda: recipe(3, notes={"a.b": {"c.d": 1}}).save())
    with_dot = recipe(4, notes={"k": 1}).save()
    with_dot.notes["x.y"] = 1
    see(with_dot.save)


@cases(images=2)
def unknown_fields(see: See) -> None:
    Strict._get_collection().insert_one({"_id": key(1), "a": 1, "stray": 2})
    one = Strict.objects.get()
    one.a = 5
    see(one.save)
    see(lambda: Strict.objects.update(inc__a=1))
    Cook._get_collection().insert_one({"_id": key(1), "stray": 2})
    see(lambda: Cook.objects.first())
    see(lambda: Cook.objects.modify(set__name="x"))
    see(lambda: Cook.objects.delete())


@cases(images={"atomic": 3, "sync": 3, "standalone": 5})
def inheritance(see: See) -> None:
    see(lambda: Tea(id=key(1), name="t", leaves="l").save())
    see(lambda: Drink(id=key(2), name="d").save())
    see(lambda: GreenTea(id=key(3), name="g", colour=3).save())
    see(lambda: Tea.objects.count())
    see(lambda: Drink.objects.no_sub_classes().count())
    with no_sub_classes(Drink) as Only:  # noqa: N806
        see(lambda: list(Only.objects))
        see(lambda: Only.objects.update_one(name="only"))
    see(lambda: Tea.objects(pk=key(2)).update_one(name="not a tea"))
    see(lambda: GreenTea.objects(pk=key(3)).update_one(colour=4))
    see(lambda: Tea.objects(name="new").update_one(upsert=True, set__leaves="x"))
    see(lambda: Tea.objects(name="new two").upsert_one(leaves="y"))
    see(lambda: Drink.objects(name="g").modify(set__name="gg", new=True))
    see(lambda: Drink.objects.insert([Drink(id=key(10)), Tea(id=key(11)), GreenTea(id=key(12))]))
    see(lambda: Tea.objects.insert([Drink(id=key(13))]))
    see(lambda: Tea.objects(pk__gte=key(10)).delete())
    see(lambda: Tea.objects.clear_cls_query().count())


@cases(images={"standalone": 1})
def shard_keys(see: See) -> None:
    one = see(lambda: Menu(id=key(1), place="p", day=1).save())
    one.text = "t"
    see(one.save)
    see(lambda: setattr(one, "place", "q"))
    see(one.save)
    two = Menu(id=key(2), place="p", day=2).save()
    see(lambda: two.update(text="u"))
    see(lambda: two.modify(set__text="v"))
    see(two.reload)
    see(two.delete)
    with_two = Menu.objects.only("day").first()
    see(lambda: with_two and with_two.delete())


# -- indexes and collections -----------------------------------------------------------------------------------------


@cases(modes=("atomic",))
def indexes(see: See) -> None:
    see(lambda: Recipe.ensure_indexes())
    see(lambda: Recipe.list_indexes())
    see(lambda: Recipe.compare_indexes())
    see(lambda: Cook.create_index(["name", "-best"]))
    see(lambda: Cook.create_index("name", background=True, sparse=True))
    see(lambda: Cook.compare_indexes())
    see(lambda: Cook.create_index("no_such_field.a"))
    see(lambda: sorted(Cook._get_collection().index_information().items()))
    see(lambda: Cook._get_collection().create_index([("name", 1)], name="mine", unique=True))
    see(lambda: Cook._get_collection().drop_index("name_1_best_-1"))
    see(lambda: Cook._get_collection().drop_indexes())
    see(lambda: Drink.compare_indexes())
    see(lambda: Drink.list_indexes() == Tea.list_indexes())
    see(lambda: Strict(id=key(1), a=1).save())
    Strict._get_collection().drop_indexes()
    see(lambda: Strict(id=key(2), a=1).save())
    see(lambda: Strict.compare_indexes())


@cases(images=None)
def dropped_collections(see: See) -> None:
    recipe(1).save()
    see(lambda: Recipe.drop_collection())
    see(lambda: Recipe._collection)
    see(lambda: Recipe.objects.count())
    see(lambda: recipe(1).save())
    see(lambda: "recipe" in Recipe._get_db().list_collection_names())
    see(lambda: Recipe.compare_indexes())
    see(lambda: mongoengine.Document.drop_collection())


@cases(modes=("atomic",))
def abstract(see: See) -> None:
    class Nothing(mongoengine.Document):
        meta = {"abstract": True}

    see(lambda: Nothing().save())
    see(lambda: Recipe.register_delete_rule(Cook, "best", mongoengine.NULLIFY))


# -- inserts ---------------------------------------------------------------------------------------------------------


@cases
def insert(see: See) -> None:
    see(lambda: Recipe.objects.insert(recipe(1)))
    see(lambda: Recipe.objects.insert([recipe(2), recipe(3)]))
    see(lambda: Recipe.objects.insert(recipe(4), load_bulk=False))
    see(lambda: Recipe.objects.insert([recipe(5), recipe(6)], load_bulk=False))
    see(lambda: Recipe.objects.insert(Recipe(title="generated")))
    see(lambda: Recipe.objects.insert([Recipe(title=f"g{n}") for n in range(3)], load_bulk=False))
    see(lambda: Recipe.objects.insert([recipe(7)], signal_kwargs={"more": 1}))
    see(lambda: Recipe.objects.insert([recipe(8)], write_concern={"w": 1, "j": True}))
    see(lambda: Recipe.objects.insert([recipe(9)], write_concern={"w": 0}, load_bulk=False))
    see(lambda: Recipe.objects.create(title="created"))
    see(lambda: Recipe.objects(minutes=3).create(title="created", minutes=4))


@cases(again={"atomic": 2})
def insert_mistakes(see: See) -> None:
    see(lambda: Recipe.objects.insert([]))
    see(lambda: Recipe.objects.insert([Cook(name="no recipe")]))
    see(lambda: Recipe.objects.insert("text"))
    see(lambda: Recipe.objects.insert(None))
    see(lambda: Recipe.objects.insert([recipe(1).save()]))
    see(lambda: Recipe.objects.insert(Recipe(), load_bulk=False))
    see(lambda: Recipe.objects.insert(Recipe(title=3, minutes="many"), load_bulk=False))
    see(lambda: Recipe.objects.insert([recipe(2), recipe(2)]))
    see(lambda: Recipe.objects.insert([recipe(3, code="a"), recipe(4, code="a"), recipe(5)]))
    see(lambda: Recipe.objects.insert(recipe(6, code="a")))
    see(lambda: Recipe.objects.insert(recipe(1)))
    see(lambda: Recipe.objects.insert([recipe(7, notes={"a": {1, 2}})]))
    see(lambda: Recipe.objects.insert([recipe(8, minutes=2**70)]))
    see(lambda: Recipe.objects.create(title="c", code="a"))


@cases(again=2)
def insert_of_many(see: See) -> None:
    """Three chunks: three commands where plain has one, and each is its own transaction."""
    see(lambda: len(Recipe.objects.insert([recipe(n) for n in range(1, 121)], load_bulk=False)))
    see(lambda: Recipe.objects.count())


# -- updates ---------------------------------------------------------------------------------------------------------


@cases(images=5)
def update(see: See) -> None:
    three()
    see(lambda: Recipe.objects.update(set__title="all"))
    see(lambda: Recipe.objects(minutes__gt=10).update(title="some", set__notes__a=1))
    see(lambda: Recipe.objects(minutes=99).update(title="none"))
    see(lambda: Recipe.objects(pk=key(1)).update(title="one"))
    see(lambda: Recipe.objects(pk=key(1)).update(title="one"))
    see(lambda: Recipe.objects.update(unset__notes=1, full_result=True))
    see(lambda: Recipe.objects(pk=key(77)).update(title="none", full_result=True))
    see(lambda: Recipe.objects.quick().update(set__steps=[]))


@cases(images={"atomic": 58, "sync": 58, "standalone": 59}, again={"atomic": 1, "sync": 1})
def update_operators(see: See) -> None:
    three()
    one = Recipe.objects(pk=key(1))
    every = Recipe.objects
    for queryset in (one, every):
        see(lambda queryset=queryset: queryset.update(inc__minutes=1, set__title="x"))
        see(lambda queryset=queryset: queryset.update(dec__minutes=1))
        see(lambda queryset=queryset: queryset.update(mul__minutes=2))
        see(lambda queryset=queryset: queryset.update(max__minutes=30))
        see(lambda queryset=queryset: queryset.update(min__minutes=5))
        see(lambda queryset=queryset: queryset.update(push__steps="p"))
        see(lambda queryset=queryset: queryset.update(push__steps__0="first"))
        see(lambda queryset=queryset: queryset.update(push__steps__1=["a", "b"]))
        see(lambda queryset=queryset: queryset.update(push_all__steps=["y", "z"]))
        see(lambda queryset=queryset: queryset.update(add_to_set__steps=["y", "w"]))
        see(lambda queryset=queryset: queryset.update(pop__steps=1))
        see(lambda queryset=queryset: queryset.update(pop__steps=-1))
        see(lambda queryset=queryset: queryset.update(pull__steps="y"))
        see(lambda queryset=queryset: queryset.update(pull_all__steps=["z", "w"]))
        see(lambda queryset=queryset: queryset.update(set__steps__0="zero"))
        see(lambda queryset=queryset: queryset.update(rename__notes="memo"))
        see(lambda queryset=queryset: queryset.update(set__spoons=[Spoon(size=1), Spoon(size=2)]))
        see(lambda queryset=queryset: queryset.update(pull__spoons__size=1))
        see(lambda queryset=queryset: queryset.update(set_on_insert__minutes=7))
        see(
            lambda queryset=queryset: queryset.update(
                __raw__={"$bit": {"minutes": {"or": 1}}, "$set": {"ti": "r"}}
            )
        )
        see(lambda queryset=queryset: queryset.update(__raw__=[{"$set": {"ti": {"$concat": ["$ti", "?"]}}}]))
        see(lambda queryset=queryset: queryset.update(__raw__={"$unset": {"notes": 1}}, set__minutes=3))
    see(lambda: Recipe.objects(spoons__size=2).update(set__spoons__S__label="positional"))
    see(
        lambda: Recipe.objects.update(
            __raw__={"$set": {"spoons.$[s].size": 9}}, array_filters=[{"s.size": 2}]
        )
    )
    see(lambda: one.update_one(__raw__={"$set": {"spoons.$[].size": 10}}))


@cases(
    images={"atomic": 17, "sync": 17, "standalone": 35}, again={"atomic": 21, "sync": 21, "standalone": 14}
)
def update_mistakes(see: See) -> None:
    three()
    one = Recipe.objects(pk=key(1))
    every = Recipe.objects
    for queryset in (one, every):
        see(lambda queryset=queryset: queryset.update())
        see(lambda queryset=queryset: queryset.update(upsert=True))
        see(lambda queryset=queryset: queryset.update(no_such=1))
        see(lambda queryset=queryset: queryset.update(bad__title=1))
        see(lambda queryset=queryset: queryset.update(inc__title=1))
        see(lambda queryset=queryset: queryset.update(push__minutes=1))
        see(lambda queryset=queryset: queryset.update(__raw__={"$bad": {"a": 1}}))
        see(lambda queryset=queryset: queryset.update(__raw__={"a": 1}))
        see(lambda queryset=queryset: queryset.update(__raw__={}))
        see(lambda queryset=queryset: queryset.update(__raw__=[]))
        see(lambda queryset=queryset: queryset.update(__raw__=[{"$bad": 1}]))
        see(lambda queryset=queryset: queryset.update(__raw__="text"))
        see(lambda queryset=queryset: queryset.update(__raw__={"$set": {"_id": 5}}))
        see(lambda queryset=queryset: queryset.update(__raw__={"$set": {"a": 1, "a.b": 2}}))
        see(lambda queryset=queryset: queryset.update(__raw__={"$set": {"": 1}}))
        see(lambda queryset=queryset: queryset.update(__raw__={"$set": {"a..b": 1}}))
        see(lambda queryset=queryset: queryset.update(__raw__={"$set": {"a": {1, 2}}}))
        see(lambda queryset=queryset: queryset.update(__raw__={"$set": {"a": 2**70}}))
        see(lambda queryset=queryset: queryset.update(__raw__={"$set": {"a": 1j}}))
        see(lambda queryset=queryset: queryset.update(set__minutes="abc"))
        see(lambda queryset=queryset: queryset.update(set__title=3))
        see(lambda queryset=queryset: queryset.update(title="t", array_filters="text"))
        see(lambda queryset=queryset: queryset.update(title="t", array_filters=[{"x": 1}]))
        see(lambda queryset=queryset: queryset.update(title="t", array_filters={}))
        see(lambda queryset=queryset: queryset.update(title="t", upsert="yes"))
        see(lambda queryset=queryset: queryset.update(title="t", upsert=None))
        see(lambda queryset=queryset: queryset.update(title="t", upsert=1))
        see(lambda queryset=queryset: queryset.update(title="t", write_concern={"w": "nobody"}))
        see(lambda queryset=queryset: queryset.update(title="t", write_concern=5))
        see(
            lambda queryset=queryset: queryset.update(
                title="t", write_concern={"w": 0}, array_filters=[{"x": 1}]
            )
        )
        see(lambda queryset=queryset: queryset.update(title="t", read_concern={"level": "bad"}))
        see(lambda queryset=queryset: queryset.update(title="t", read_concern={"level": "majority"}))
        see(lambda queryset=queryset: queryset.update(title="t", multi=False))
    see(lambda: Recipe.objects(__raw__={"$bad": 1}).update(title="t"))
    see(lambda: Recipe.objects(__raw__={"_id": {"$bad": 1}}).update(title="t"))
    see(lambda: Recipe.objects(__raw__={"a": {1}}).update(title="t"))
    see(lambda: Recipe.objects(__raw__={"$where": "bad("}).update(title="t"))
    see(lambda: Recipe.objects(pk="no id").update(title="t"))
    see(lambda: Recipe.objects(no_such=1).update(title="t"))
    see(lambda: Recipe.objects.none().update(title="t"))
    recipe(8, code="u").save()
    see(lambda: Recipe.objects(pk=key(1)).update(code="u"))
    see(lambda: Recipe.objects(pk=key(1)).update_one(code="u"))
    see(lambda: Recipe.objects(pk=key(1)).modify(code="u"))
    see(lambda: Recipe.objects(pk=key(1)).upsert_one(code="u"))
    see(lambda: Recipe.objects(title="nobody").update_one(upsert=True, code="u"))


@cases(images={"atomic": 5, "sync": 4, "standalone": 7})
def update_one(see: See) -> None:
    three()
    see(lambda: Recipe.objects.update_one(title="first"))
    see(lambda: Recipe.objects.update_one(title="first", full_result=True))
    see(lambda: Recipe.objects(minutes__gte=20).update_one(inc__minutes=1, full_result=True))
    see(lambda: Recipe.objects(minutes__gte=200).update_one(inc__minutes=1, full_result=True))
    see(lambda: Recipe.objects.order_by("-minutes").update_one(set__title="order is ignored"))
    see(lambda: Recipe.objects(title="up").update_one(upsert=True, set__minutes=1))
    see(
        lambda: Recipe.objects(title="up", minutes=5).update_one(
            upsert=True, inc__minutes=1, full_result=True
        )
    )
    see(lambda: Recipe.objects(pk=key(9)).update_one(upsert=True, set__title="up", full_result=True))
    see(lambda: Recipe.objects(pk=key(9)).update_one(upsert=True, inc__minutes=3, full_result=True))
    see(lambda: Recipe.objects.limit(1).skip(1).update_one(title="limits are ignored"))


@cases(images={"atomic": 14, "sync": 11, "standalone": 19})
def upserts(see: See) -> None:
    see(lambda: Recipe.objects(title="a").upsert_one(set__minutes=1))
    see(lambda: Recipe.objects(title="a").upsert_one(set__minutes=2))
    see(lambda: Recipe.objects(title="a").upsert_one(inc__minutes=2, write_concern={"w": 1}))
    see(lambda: Recipe.objects(title="b").update(upsert=True, multi=True, minutes=5, full_result=True))
    see(lambda: Recipe.objects(title="b").update(upsert=True, multi=True, minutes=6, full_result=True))
    see(lambda: Recipe.objects(pk=key(3)).update(upsert=True, minutes=6, full_result=True))
    see(lambda: Kitchen.objects(number=4).upsert_one(seats=5))
    see(lambda: Kitchen.objects(number=4).upsert_one(seats=6))
    see(lambda: Kitchen.objects(number=5).modify(upsert=True, seats=5))
    see(lambda: Kitchen.objects(number=6).modify(upsert=True, new=True, seats=5, set_on_insert__cooks=[]))
    see(lambda: Recipe.objects(title__in=["c", "d"]).upsert_one(set__minutes=1))
    see(lambda: Recipe.objects(Q(title="e") & Q(minutes=4)).upsert_one(set__steps=["e"]))
    see(lambda: Recipe.objects(steps__0="f").upsert_one(set__title="f"))
    see(lambda: Recipe.objects(title="g").update_one(upsert=True, __raw__=[{"$set": {"minutes": 3}}]))
    see(lambda: Recipe.objects(title="h").upsert_one(minutes=1, bad=2))
    see(lambda: Recipe.objects(title="i").upsert_one())
    see(lambda: Recipe.objects(minutes__gt=5, minutes__lt=3).upsert_one(title="impossible"))


@cases(images=6)
def modify(see: See) -> None:
    three()
    see(lambda: Recipe.objects(pk=key(1)).modify(title="a"))
    see(lambda: Recipe.objects(pk=key(1)).modify(title="b", new=True))
    see(lambda: Recipe.objects(pk=key(1)).modify(inc__minutes=1))
    see(lambda: Recipe.objects(pk=key(1)).modify(inc__minutes=1, new=True))
    see(lambda: Recipe.objects(pk=key(7)).modify(title="none"))
    see(lambda: Recipe.objects(pk=key(7)).modify(title="none", new=True))
    see(lambda: Recipe.objects.order_by("-minutes").modify(title="last", new=True))
    see(lambda: Recipe.objects.order_by("minutes", "-title").modify(push__steps="last"))
    see(lambda: Recipe.objects(pk=key(2)).only("title").modify(title="c"))
    see(lambda: Recipe.objects(pk=key(2)).exclude("title").modify(title="d", new=True))
    see(lambda: Recipe.objects(pk=key(2)).fields(slice__steps=1).modify(title="e"))
    see(lambda: Recipe.objects.order_by("minutes").modify(remove=True))
    see(lambda: Recipe.objects(pk=key(77)).modify(remove=True))
    see(lambda: Recipe.objects(pk=key(1)).modify())
    see(lambda: Recipe.objects(pk=key(1)).modify(remove=True, new=True))
    see(lambda: Recipe.objects(pk=key(1)).modify(remove=True, upsert=True))
    see(lambda: Recipe.objects(pk=key(1)).modify(remove=True, title="x"))
    see(lambda: Recipe.objects.none().modify(title="x"))


@cases(images={"atomic": 5, "sync": 5, "standalone": 7}, again=4)
def modify_options(see: See) -> None:
    three()
    see(lambda: Recipe.objects(pk=key(1)).modify(full_response=True, title="a"))
    see(lambda: Recipe.objects.scalar("title").modify(title="b"))
    see(lambda: Recipe.objects.as_pymongo().modify(title="c"))
    see(lambda: Recipe.objects.timeout(False).modify(title="d"))
    see(lambda: Recipe.objects.allow_disk_use(True).modify(title="e"))
    see(lambda: Recipe.objects.comment("told").modify(title="f"))
    see(lambda: Recipe.objects.hint("minutes_1").modify(title="g"))
    see(lambda: Recipe.objects.collation({"locale": "en"}).modify(title="h"))
    see(lambda: Recipe.objects.search_text("2").modify(title="i"))
    see(lambda: Recipe.objects.search_text("2").order_by("$text_score").modify(title="j"))
    see(lambda: Recipe.objects.skip(1).limit(1).modify(title="k"))
    see(lambda: Recipe.objects.batch_size(2).max_time_ms(1000).modify(title="l"))
    see(lambda: Recipe.objects.where("this.minutes > 10").modify(title="m"))
    see(lambda: Recipe.objects.no_dereference().modify(title="n", new=True))
    see(lambda: Recipe.objects.read_preference(ReadPreference.SECONDARY_PREFERRED).modify(title="o"))
    see(lambda: Recipe.objects.no_cache().modify(title="p"))
    see(lambda: Recipe.objects(pk=key(1)).modify(title="q", array_filters="text"))
    see(lambda: Recipe.objects(pk=key(1)).modify(__raw__={"$set": {"spoons.$[x].size": 1}}, array_filters=[]))
    see(lambda: Recipe.objects(pk=key(1)).modify(__raw__={"$bad": 1}))
    see(lambda: Recipe.objects(pk=key(1)).modify(bogus=1))
    see(lambda: Recipe.objects(pk=key(1)).modify(title="r", upsert="yes"))
    see(lambda: Recipe.objects(pk=key(1)).modify(title="r", new="yes"))


@cases(images=13)
def update_through_options(see: See) -> None:
    three()
    see(lambda: Recipe.objects.scalar("title").update(title="b"))
    see(lambda: Recipe.objects.as_pymongo().update(minutes=3))
    see(lambda: Recipe.objects.only("title").update(minutes=4))
    see(lambda: Recipe.objects.comment("told").update(minutes=5))
    see(lambda: Recipe.objects.hint("minutes_1").update(minutes=6))
    see(lambda: Recipe.objects.search_text("2").update(minutes=7))
    see(lambda: Recipe.objects.search_text("b").update(minutes=8))
    see(lambda: Recipe.objects.search_text("b").update_one(minutes=9))
    see(lambda: Recipe.objects.skip(1).limit(1).update(minutes=10))
    see(lambda: Recipe.objects.where("this.minutes > 10").update(minutes=11))
    see(lambda: Recipe.objects.read_preference(ReadPreference.SECONDARY_PREFERRED).update(minutes=12))
    see(lambda: Recipe.objects.read_concern({"level": "local"}).update(minutes=13))
    see(lambda: Recipe.objects.collation({"locale": "en", "strength": 1})(title="B").update(minutes=14))
    see(lambda: Recipe.slow.update(minutes=15))
    see(lambda: Recipe.slow().count())


# -- deletes ---------------------------------------------------------------------------------------------------------


def delete(see: See) -> None:
    """One command each, up to a chunk."""
    three()
    see(lambda: Recipe.objects(minutes=10).delete())
    see(lambda: Recipe.objects(minutes=99).delete())
    see(lambda: Recipe.objects(pk=key(2)).delete())
    see(lambda: Recipe.objects.delete())
    see(lambda: Recipe.objects.delete())
    three()
    see(lambda: Recipe.objects.limit(2).delete())
    see(lambda: Recipe.objects.skip(5).delete())
    see(lambda: Recipe.objects.none().delete())
    see(lambda: Recipe.objects(pk__in=[key(3)]).delete(write_concern={"w": 1}))
    see(lambda: Recipe.objects(no_such=1).delete())
    see(lambda: Recipe.objects(__raw__={"$bad": 1}).delete())


cases(delete, images=15)
cases(delete, images=6, receivers=True)


def delete_through_options(see: See) -> None:
    for queryset in (
        lambda: Recipe.objects.scalar("title"),
        lambda: Recipe.objects.as_pymongo(),
        lambda: Recipe.objects.only("title"),
        lambda: Recipe.objects.no_cache(),
        lambda: Recipe.objects.search_text("2"),
        lambda: Recipe.objects.order_by("-minutes"),
        lambda: Recipe.objects.where("this.minutes > 10"),
        lambda: Recipe.objects.values_list("title", "minutes"),
        lambda: Recipe.objects(Q(minutes=10) | Q(minutes=20)),
    ):
        Recipe.objects.delete()
        three()
        see(lambda queryset=queryset: queryset().delete())
        see(lambda: Recipe.objects.count())


cases(delete_through_options, images=12)
cases(delete_through_options, images=14, receivers=True)


def delete_rules(see: See) -> None:
    cooks = [Cook(id=key(n), name=f"c{n}").save() for n in (1, 2, 3, 4)]
    Kitchen(number=1, chief=cooks[0], cooks=cooks[:3], closed=cooks[2]).save()
    Kitchen(number=2, cooks=cooks[1:], closed=cooks[1]).save()
    one = recipe(1).save()
    Cook.objects(id=key(4)).update(best=one)
    see(cooks[0].delete)
    see(cooks[1].delete)
    see(lambda: Cook.objects(id=key(1)).delete())
    see(one.delete)
    see(lambda: list(Cook.objects.as_pymongo()))
    see(lambda: Cook.objects(id__in=[key(3), key(4)]).delete())
    see(lambda: Cook.objects.delete(write_concern={"w": 1}))
    see(lambda: list(Kitchen.objects.as_pymongo()))


cases(delete_rules, images=10)
cases(delete_rules, images=7, receivers=True)


@cases(images=None)
def writes_of_chunks(see: See) -> None:
    """More than a chunk: counts and answers are those of one write."""
    Recipe.objects.insert([recipe(n) for n in range(1, 121)], load_bulk=False)
    see(lambda: Recipe.objects.update(set__title="many", full_result=True))
    see(lambda: Recipe.objects.update(inc__minutes=1))
    see(lambda: Recipe.objects(minutes__gt=300).update(set__minutes=0))
    see(lambda: Recipe.objects.update(set__title="many", full_result=True))
    see(lambda: Recipe.objects.delete())


# -- reads -----------------------------------------------------------------------------------------------------------


@cases(modes=("atomic",))
def reading(see: See) -> None:
    three()
    see(lambda: Recipe.objects)
    see(lambda: Recipe.objects.all()[1:])
    see(lambda: Recipe.objects[0])
    see(lambda: Recipe.objects[7])
    see(lambda: len(Recipe.objects))
    see(lambda: bool(Recipe.objects(minutes=99)))
    see(lambda: Recipe.objects.get(pk=key(1)))
    see(lambda: Recipe.objects.get(pk=key(9)))
    see(lambda: Recipe.objects.get())
    see(lambda: Recipe.objects.first())
    see(lambda: Recipe.objects.with_id(key(2)))
    see(lambda: Recipe.objects(minutes=1).with_id(key(2)))
    see(lambda: Recipe.objects.in_bulk([key(1), key(3), key(7)]))
    see(lambda: Recipe.objects.scalar("title").in_bulk([key(1)]))
    see(lambda: Recipe.objects.as_pymongo().in_bulk([key(1)]))
    see(lambda: Recipe.objects.scalar("title", "minutes"))
    see(lambda: Recipe.objects.values_list("title"))
    see(lambda: Recipe.objects.as_pymongo())
    see(lambda: Recipe.objects.distinct("steps"))
    see(lambda: Recipe.objects.distinct("title"))
    see(lambda: Recipe.objects.count())
    see(lambda: Recipe.objects.limit(1).count(with_limit_and_skip=True))
    see(lambda: Recipe.objects.sum("minutes"))
    see(lambda: Recipe.objects.average("minutes"))
    see(lambda: sorted(Recipe.objects.item_frequencies("steps").items()))
    see(lambda: sorted(Recipe.objects.item_frequencies("steps", map_reduce=False, normalize=True).items()))
    see(lambda: list(Recipe.objects.aggregate([{"$group": {"_id": None, "n": {"$sum": "$minutes"}}}])))
    see(lambda: list(Recipe.objects(minutes=20).aggregate([{"$project": {"ti": 1}}], allowDiskUse=True)))
    see(lambda: list(Recipe.objects.aggregate([{"$bad": 1}])))
    see(
        lambda: list(
            Recipe.objects.map_reduce("function() {emit(1, 1)}", "function(k, v) {return 5}", "inline")
        )
    )
    see(lambda: Recipe.objects.to_json())
    see(lambda: Recipe.objects.search_text("2").order_by("$text_score"))
    see(lambda: Recipe.objects.where("this.minutes == 10"))
    see(lambda: Recipe.objects.comment("c").hint("minutes_1").batch_size(1).max_time_ms(5000))
    see(lambda: Recipe.objects.hint("no such index"))
    see(lambda: Recipe.objects.explain()["queryPlanner"]["winningPlan"]["stage"])
    see(lambda: Recipe.objects.collation({"locale": "en"}).order_by("title"))
    see(lambda: Recipe.objects.read_preference(ReadPreference.SECONDARY_PREFERRED))
    see(lambda: Recipe.objects.read_concern({"level": "majority"}))
    see(lambda: Recipe.objects.timeout(True).no_cache())
    see(lambda: Recipe.objects.timeout(False).first())
    see(lambda: Recipe.objects.exclude("steps").order_by("-minutes").skip(1))
    see(lambda: Recipe.objects.select_related())
    see(lambda: iter(Recipe.objects.no_cache()))
    see(lambda: Recipe.objects.quick())
    see(lambda: Recipe.slow)
    see(lambda: Recipe.objects.none())
    see(lambda: Recipe.objects.rewind())
    see(lambda: Recipe.objects.order_by("bad_field"))
    with no_dereference(Recipe):
        see(lambda: Recipe.objects.first())


@cases(modes=("atomic",))
def raw_reading(see: See) -> None:
    three()
    see(lambda: Recipe._get_collection().find_one({"_id": key(1)}))
    see(lambda: list(Recipe._get_collection().find({}, {"ti": 1}).sort("_id", -1).limit(2)))
    see(lambda: Recipe._get_collection().count_documents({"minutes": {"$gt": 10}}))
    see(lambda: Recipe._get_collection().estimated_document_count())
    see(lambda: Recipe._get_collection().distinct("ti", {"minutes": 10}))
    see(lambda: list(Recipe._get_collection().aggregate([{"$match": {"minutes": 10}}])))
    see(lambda: len(list(Recipe._get_collection().find_raw_batches({}))))
    see(lambda: Recipe._get_collection().options())
    see(lambda: [one["name"] for one in Recipe._get_collection().list_indexes()])
    see(lambda: Recipe._get_collection()())
    see(lambda: Recipe._get_collection().no_such_method())
    see(lambda: list(Recipe._get_collection().aggregate([{"$match": {}}, {"$out": "recipe_out"}])))
    see(lambda: list(Recipe._get_collection().aggregate([{"$merge": "recipe_out"}])))


@cases(images=1)
def lazy_cursors(see: See) -> None:
    """A queryset that is half read while its documents are written."""
    Recipe.objects.insert([recipe(n) for n in range(1, 7)])
    queryset = Recipe.objects.batch_size(2).order_by("minutes").no_cache()
    reader = iter(queryset)
    see(lambda: next(reader))
    see(lambda: Recipe.objects(pk=key(5)).update(title="changed"))
    see(lambda: Recipe.objects(pk=key(6)).delete())
    see(lambda: list(reader))
    cached = Recipe.objects
    see(lambda: len(cached))
    recipe(9).save()
    see(lambda: (len(cached), cached.count()))
    for one in Recipe.objects:
        one.title = "looped"
        see(one.save)


@cases
def references(see: See) -> None:
    cook = Cook(id=key(1), name="c").save()
    see(lambda: recipe(1, cook=cook).save())
    one = Recipe.objects.get()
    see(lambda: one.cook)
    see(lambda: one.select_related())
    see(lambda: one.to_dbref())
    see(lambda: Recipe.objects(cook=cook).update_one(unset__cook=1))
    see(lambda: Recipe.objects(cook=cook).count())


# -- the counter -----------------------------------------------------------------------------------------------------


@cases
def counted(see: See) -> None:
    """As MongoEngine's own counter has it, from the server's profiler."""
    three()
    calls: list[Callable[[], Any]] = [
        lambda: recipe(5).save(),
        lambda: recipe(5, title="again").save(),
        lambda: recipe(6).save(force_insert=True),
        lambda: Recipe.objects.insert([recipe(7), recipe(8)], load_bulk=False),
        lambda: Recipe.objects(pk=key(1)).update(title="x"),
        lambda: Recipe.objects.update_one(title="y"),
        lambda: Recipe.objects(pk=key(2)).modify(title="z"),
        lambda: Kitchen(number=1).save().delete(),
        lambda: list(Recipe.objects),
    ]
    for call in calls:
        with query_counter() as counter:
            call()
            see(lambda counter=counter: int(counter))
    Recipe._get_db().system.profile.drop()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@cases.test()
def test_documents_and_querysets(world: World, one: Case) -> None:
    world.compare(one)
