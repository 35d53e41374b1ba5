"""`REQUIRE_REASON`: a write that would be recorded without a reason is refused before it reaches the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import mongoengine
import mongomock
import pytest
from django.core.management import call_command
from mongoengine import fields
from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.database import Database

from django_mongo_history import (
    ReasonRequiredError,
    append_change_info,
    changeset,
    changesets,
    extra_change_info,
    history_of,
    rationale,
    suppress_history,
    track,
    untrack,
)
from tests.commanding import revert
from tests.conftest import CLIENT_OPTIONS, _disconnect
from tests.judge import HISTORY, RAW, configured, tracking
from tests.overheard import Overheard, overhear


class Voucher(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    hits = fields.IntField()
    items = fields.ListField(fields.IntField())
    meta = {"collection": "voucher"}


class Holder(mongoengine.Document):
    """Points to vouchers, which take it away, forget it, or take it out of a list."""

    number = fields.IntField(primary_key=True)
    voucher = fields.ReferenceField(Voucher, reverse_delete_rule=mongoengine.CASCADE)
    other = fields.ReferenceField(Voucher, reverse_delete_rule=mongoengine.NULLIFY)
    others = fields.ListField(fields.ReferenceField(Voucher, reverse_delete_rule=mongoengine.PULL))
    meta = {"collection": "holder"}


class Craft(mongoengine.Document):
    """A base that asks for nothing, with a strict class and a strict class's lax one below it."""

    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    meta = {"collection": "craft", "allow_inheritance": True}


class Airship(Craft):
    pass


class Blimp(Airship):
    pass


LABEL = f"{Voucher.__module__}.Voucher"


@pytest.fixture
def heard(mongodb: Database, mongodb_uri: str) -> Overheard:
    """Three vouchers and three holders, written untracked."""
    listener = overhear(mongodb.name, mongodb_uri)
    for document_class in (Voucher, Holder, Craft):
        document_class.drop_collection()
    seed()
    return listener


def seed() -> None:
    vouchers = [Voucher(number=n, name="a", hits=0, items=[n]) for n in (1, 2, 3)]
    Voucher.objects.insert(vouchers)
    Holder.objects.insert(
        [Holder(number=n, voucher=vouchers[0], other=vouchers[1], others=[vouchers[2]]) for n in (1, 2, 3)]
    )


def one() -> Voucher:
    return Voucher.objects.get(number=1)


def collection() -> Any:
    return Voucher._get_collection()


def _changed_save() -> Any:
    document = one()
    document.name = "b"
    return document.save()


def _drop() -> None:
    Voucher.drop_collection()  # looked up anew: tracking puts its own there


WRITES: dict[str, Callable[[], Any]] = {
    "save of a new one": lambda: Voucher(number=9).save(),
    "save with force_insert": lambda: Voucher(number=9).save(force_insert=True),
    "save of a changed one": _changed_save,
    "insert": lambda: Voucher.objects.insert([Voucher(number=n) for n in (7, 8, 9)]),
    "insert of one": lambda: Voucher.objects.insert(Voucher(number=9)),
    "update of a document": lambda: one().update(name="b"),
    "update": lambda: Voucher.objects.update(name="b"),
    "update of nothing": lambda: Voucher.objects(number=77).update(name="b"),
    "update_one": lambda: Voucher.objects(name="a").update_one(name="b"),
    "upsert_one": lambda: Voucher.objects(number=9).upsert_one(name="b"),
    "upsert of an untracked path": lambda: Voucher.objects(number=9).update_one(hits=1, upsert=True),
    "modify of a document": lambda: one().modify(name="b"),
    "modify": lambda: Voucher.objects(number=2).modify(name="b"),
    "modify, removing": lambda: Voucher.objects(number=2).modify(remove=True),
    "delete of a document": lambda: one().delete(),
    "delete": lambda: Voucher.objects().delete(),
    "drop_collection": _drop,
    "insert_one": lambda: collection().insert_one({"_id": 9}),
    "insert_many": lambda: collection().insert_many([{"_id": 8}, {"_id": 9}]),
    "replace_one": lambda: collection().replace_one({"_id": 1}, {"name": "b"}),
    "update_many": lambda: collection().update_many({}, {"$set": {"name": "b"}}),
    "pipeline": lambda: collection().update_one({}, [{"$set": {"name": "b"}}]),
    "delete_one": lambda: collection().delete_one({"name": "a"}),
    "delete_many": lambda: collection().delete_many({"_id": 1}),
    "find_one_and_update": lambda: collection().find_one_and_update({"_id": 1}, {"$inc": {"x": 1}}),
    "find_one_and_replace": lambda: collection().find_one_and_replace({"_id": 1}, {"x": 1}),
    "find_one_and_delete": lambda: collection().find_one_and_delete({"_id": 1}, projection={"_id": 1}),
    "bulk_write of inserts": lambda: collection().bulk_write([InsertOne({"_id": 9})]),
    "bulk_write": lambda: collection().bulk_write(
        [UpdateOne({"_id": 1}, {"$set": {"hits": 1}}), ReplaceOne({"_id": 2}, {"name": "b"})]
    ),
    "bulk_write of many": lambda: collection().bulk_write(
        [UpdateMany({}, {"$set": {"name": "b"}}), DeleteOne({"_id": 1}), DeleteMany({"_id": 2})],
        ordered=False,
    ),
}


@contextmanager
def strict(**settings: Any) -> Iterator[None]:
    with configured(REQUIRE_REASON=True, **settings), tracking(Voucher, untracked=["hits"]):
        yield


def raw() -> list[bytes]:
    database = mongoengine.get_db()
    names = ("voucher", "holder", "craft", HISTORY)
    found = [database.get_collection(name, codec_options=RAW).find().sort("_id") for name in names]
    return [bytes(document.raw) for cursor in found for document in cursor]


# -- every write path -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delivery", ["atomic", "sync"])
@pytest.mark.parametrize("name", WRITES)
def test_no_write_without_a_reason_reaches_the_server(heard: Overheard, name: str, delivery: str) -> None:
    """Whatever its form: the error comes first, no command of a write was sent, and nothing is another than it was."""
    with strict(DELIVERY=delivery):
        before = raw()
        heard.commands.clear()
        with pytest.raises(ReasonRequiredError, match="was refused before it reached the server") as caught:
            WRITES[name]()
        assert heard.writes() == []
        assert raw() == before
        assert caught.value.document_class is Voucher
        assert [len(history_of(Voucher, n)) for n in (1, 2, 3)] == [1, 1, 1]
        assert "voucher" in caught.value.collection
        assert "rationale(" in str(caught.value)


@pytest.mark.parametrize("delivery", ["atomic", "sync"])
@pytest.mark.parametrize("name", WRITES)
def test_with_a_reason_it_is_made_and_recorded(heard: Overheard, name: str, delivery: str) -> None:
    """The same writes, and each version says why."""
    with strict(DELIVERY=delivery):
        before = raw()
        with rationale("an order"):
            WRITES[name]()
        if name != "update of nothing":
            assert raw() != before
        stored = list(mongoengine.get_db()[HISTORY].find())
        assert {row["context"]["reason"] for row in stored} <= {"an order"}
        assert bool(stored) == (name != "update of nothing")


def test_in_a_transaction_of_the_caller_s(heard: Overheard) -> None:
    """Refused there too, and the transaction may go on with something else."""
    with strict(), mongoengine.get_connection().start_session() as session, session.start_transaction():
        given = {"session": session}
        change = {"$set": {"name": "b"}}
        refused: list[Callable[[], Any]] = [
            lambda: collection().insert_one({"_id": 9}, **given),
            lambda: collection().update_one({"_id": 1}, change, **given),
            lambda: collection().update_many({}, change, **given),
            lambda: collection().find_one_and_delete({"_id": 1}, **given),
            lambda: collection().delete_many({}, **given),
            lambda: collection().bulk_write([UpdateOne({"_id": 1}, change)], **given),
        ]
        for write in refused:
            with pytest.raises(ReasonRequiredError):
                write()
        with rationale("an order"):
            collection().update_one({"_id": 3}, change, **given)
    assert list(Voucher.objects(name="b").scalar("number")) == [3]
    assert Voucher.objects(name="a").count() == 2


def test_on_a_standalone_server(standalone_mongodb: Database) -> None:
    """Where nothing could be rolled back either."""
    seed()
    with strict():
        before = raw()
        for write in WRITES.values():
            with pytest.raises(ReasonRequiredError):
                write()
            assert raw() == before


def test_on_mongomock() -> None:
    """And on the stand-in."""
    _disconnect()
    mongoengine.connect("reasons", mongo_client_class=mongomock.MongoClient, **CLIENT_OPTIONS)
    Voucher.objects.insert([Voucher(number=n, name="a") for n in (1, 2, 3)])
    with strict():
        for name in (
            "save of a new one",
            "update of a document",
            "update",
            "delete",
            "bulk_write",
            "drop_collection",
        ):
            with pytest.raises(ReasonRequiredError):
                WRITES[name]()
        with rationale("an order"):
            one().update(name="b")
        assert [v.reason for v in one().history] == [None, "an order"]
    assert sorted(Voucher.objects.scalar("name")) == ["a", "a", "b"]
    _disconnect()


def test_drops_that_leave_versions(heard: Overheard) -> None:
    """The other way to record a drop needs a reason as well."""
    with strict(DROP_COLLECTION="versions"):
        with pytest.raises(ReasonRequiredError):
            Voucher.drop_collection()
        assert Voucher.objects.count() == 3
        with rationale("season's end"):
            Voucher.drop_collection()
        assert [history_of(Voucher, n)[-1].reason for n in (1, 2, 3)] == ["season's end"] * 3


@pytest.mark.parametrize("number", [1, 2, 3])
def test_cascades_and_rules(heard: Overheard, number: int) -> None:
    """What a delete does to documents that point to the deleted one is a write of their class: refused, nothing done."""
    with configured(), tracking(Voucher), tracking(Holder, require_reason=True):
        before = raw()
        with pytest.raises(ReasonRequiredError, match="Holder"):
            Voucher.objects.get(number=number).delete()
        assert raw() == before
        with rationale("an order"):
            Voucher.objects.get(number=number).delete()
        for holder in (1, 2, 3):
            assert history_of(Holder, holder)[-1].reason == "an order"


class Attachment(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    content = fields.FileField()
    meta = {"collection": "attachment"}


@pytest.mark.parametrize("how", ["document", "queryset"])
def test_a_refused_delete_has_deleted_nothing_yet(heard: Overheard, how: str) -> None:
    """Neither files nor what cascades to classes that ask for nothing: those would go before the document."""
    deletes = vars(mongoengine.Document)["delete"], vars(mongoengine.QuerySet.__mro__[1])["delete"]
    made = [Attachment(number=number) for number in (1, 2, 3)]
    for attachment in made:
        attachment.content.put(b"bytes")
        attachment.save()
    with configured(), tracking(Attachment, Voucher, require_reason=True), tracking(Holder):
        before = raw()
        heard.commands.clear()
        for subject in (
            (made[1], Voucher(number=1)) if how == "document" else (Attachment.objects, Voucher.objects)
        ):
            with pytest.raises(ReasonRequiredError):
                subject.delete()
        assert heard.writes() == []
        assert raw() == before
        assert [one.content.read() for one in Attachment.objects] == [b"bytes"] * 3
        with rationale("why"):
            made[1].delete()
            Voucher.objects.get(number=1).delete()
        assert Attachment.objects.count() == 2
        assert Holder.objects.count() == 0
    assert deletes == (
        vars(mongoengine.Document)["delete"],
        vars(mongoengine.QuerySet.__mro__[1])["delete"],
    ), "MongoEngine's own methods are back"


# -- what is a reason -------------------------------------------------------------------------------------------------


REASONS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "rationale": lambda: rationale("why"),
    "changeset": lambda: changeset(reason="why"),
    "changeset, as rationale": lambda: changeset(rationale="why"),
    "an outer block": lambda: rationale("why"),
    "extra": lambda: extra_change_info(reason="why"),
    "extra, as rationale": lambda: extra_change_info(rationale="why"),
}


@pytest.mark.parametrize("name", REASONS)
def test_blocks_with_a_reason(heard: Overheard, name: str) -> None:
    """Any block that says why will do, for as long as it lasts."""
    with strict():
        with REASONS[name](), changeset(user="ann") if name == "an outer block" else nullcontext():
            for number in (1, 2, 3):
                Voucher.objects(number=number).update(name="b")
        with pytest.raises(ReasonRequiredError):
            Voucher.objects(number=1).update(name="c")
        assert [history_of(Voucher, number)[-1].reason for number in (1, 2, 3)] == ["why"] * 3


@pytest.mark.parametrize("name", ["reason", "rationale"])
def test_callables_that_give_a_reason(heard: Overheard, name: str) -> None:
    """Of the project or of the class; one that fails gives none."""
    with strict(GET_EXTRA=lambda _: {name: "by rule"}):
        Voucher.objects.update(name="b")
        assert [history_of(Voucher, n)[-1].reason for n in (1, 2, 3)] == ["by rule"] * 3
    with strict(GET_EXTRA=lambda _: {name: 1 / 0}), pytest.raises(ReasonRequiredError):
        Voucher.objects.update(name="c")


def test_an_appended_reason_is_for_its_document(heard: Overheard) -> None:
    """For one write of that document, by whichever path that names it alone."""
    with strict():
        paths: list[Callable[[], Any]] = [
            lambda: Voucher.objects(number=2).update(name="b"),
            lambda: Voucher.objects.get(number=2).modify(name="c"),
            lambda: collection().bulk_write([UpdateOne({"_id": 2}, {"$set": {"name": "d"}})]),
            lambda: Voucher.objects.get(number=2).delete(),
        ]
        for count, path in enumerate(paths, start=1):
            append_change_info(Voucher(number=2), reason=f"why {count}")
            for other in (1, 3):
                with pytest.raises(ReasonRequiredError):
                    Voucher.objects(number=other).update(name="b")
            with pytest.raises(ReasonRequiredError):
                Voucher.objects.update(name="b")
            path()
            assert history_of(Voucher, 2)[-1].reason == f"why {count}"
            with pytest.raises(ReasonRequiredError):
                Voucher(number=2).update(name="e")


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_blank_text_is_no_reason(heard: Overheard, text: str) -> None:
    """Nor is other appended info, or extra, or a user."""
    with strict(), changeset(user="ann", reason=text, ticket=7):
        append_change_info(Voucher(number=2), scanner=1)
        with pytest.raises(ReasonRequiredError):
            Voucher.objects(number=2).update(name="b")


# -- what needs none --------------------------------------------------------------------------------------------------


def test_what_is_not_recorded_needs_no_reason(heard: Overheard) -> None:
    """Untracked paths alone, suppressed writes, reads, other classes, what the driver refuses before it sends it."""
    with strict():
        for number in (1, 2, 3):
            Voucher.objects(number=number).update(hits=5)
        collection().bulk_write([UpdateOne({"_id": 1}, {"$set": {"hits": 6}})])
        one().save()  # nothing has changed
        Holder.objects.update(set__other=None)
        with suppress_history("nightly import"):
            Voucher.objects.update(name="b")
        with pytest.raises(ValueError, match="operators"):
            collection().update_one({}, {"name": "no operator"})
        assert [len(history_of(Voucher, n)) for n in (1, 2, 3)] == [1, 1, 1]
        assert Voucher.objects(name="b").count() == 3


def test_a_drop_of_nothing_needs_no_reason(heard: Overheard) -> None:
    with strict():
        with rationale("why"):
            Voucher.drop_collection()
        Voucher.drop_collection()


# -- reverts ----------------------------------------------------------------------------------------------------------


def _written_three_times() -> list[Any]:
    for name in ("b", "c"):
        with rationale(name):
            for number in (1, 2, 3):
                Voucher.objects(number=number).update(name=name)
    return [history_of(Voucher, number) for number in (1, 2, 3)]


WAYS_BACK: dict[str, Callable[[Any], Any]] = {
    "revert": lambda h: h.revert(),
    "version.revert": lambda h: h[1].revert(),
    "version.take_back": lambda h: h[-1].take_back(),
    "changeset.take_back": lambda h: h[-1].changeset.take_back(),
}


@pytest.mark.parametrize("name", WAYS_BACK)
def test_ways_back_need_a_reason_too(heard: Overheard, name: str) -> None:
    """That a version is a revert says what was done, not why."""
    with strict():
        _first, second, _third = _written_three_times()
        before = raw()
        heard.commands.clear()
        with pytest.raises(ReasonRequiredError):
            WAYS_BACK[name](second)
        assert heard.writes() == []
        assert raw() == before
        with rationale("a mistake"):
            WAYS_BACK[name](second)
        assert (second[-1].reason, second[-1].revert_of is None) == ("a mistake", False)


def test_a_deleted_document_comes_back_with_a_reason_only(heard: Overheard) -> None:
    with strict():
        histories = _written_three_times()
        with rationale("gone"):
            Voucher.objects.delete()
        for h in histories:
            with pytest.raises(ReasonRequiredError):
                h[-1].previous.revert()
        assert Voucher.objects.count() == 0
        append_change_info(Voucher(number=2), reason="needed")
        histories[1][-1].previous.revert()
        assert list(Voucher.objects.scalar("number")) == [2]
        assert histories[1][-1].reason == "needed"


def test_the_command_says_so(heard: Overheard) -> None:
    """`history_revert` without `--reason` writes nothing; with it, it does."""
    with strict():
        histories = _written_three_times()
        since = histories[0][1].at.isoformat()
        said = revert("--since", since, "--document", LABEL)
        assert "has no reason" in str(said.error)
        assert set(Voucher.objects.scalar("name")) == {"c"}
        assert revert("--since", since, "--document", LABEL, "--reason", "a bad day").error is None
        assert {h[-1].reason for h in histories} == {"a bad day"}


def test_baselines_need_none(heard: Overheard) -> None:
    """They write no document."""
    with strict():
        call_command("history_baseline", document=[LABEL], verbosity=0)
        assert [history_of(Voucher, n)[0].operation for n in (1, 2, 3)] == ["baseline"] * 3


# -- by class ---------------------------------------------------------------------------------------------------------


def test_a_class_says_it_for_itself(heard: Overheard) -> None:
    """In both directions, by `track()` and by an entry of the settings."""
    with configured(), tracking(Voucher, require_reason=True), tracking(Holder):
        Holder.objects.update(set__other=None)
        with pytest.raises(ReasonRequiredError, match="Voucher"):
            Voucher.objects.update(name="b")
    with configured(REQUIRE_REASON=True), tracking(Voucher, require_reason=False), tracking(Holder):
        Voucher.objects.update(name="b")
        with pytest.raises(ReasonRequiredError, match="Holder"):
            Holder.objects.update(set__others=[])


def test_an_entry_of_the_settings(heard: Overheard, settings: Any) -> None:
    settings.MONGO_HISTORY = {}
    settings.TRACKED_DOCUMENTS = [{"document": LABEL, "require_reason": True}]
    with pytest.raises(ReasonRequiredError):
        Voucher.objects.update(name="b")
    settings.TRACKED_DOCUMENTS = [LABEL]
    Voucher.objects.update(name="b")


@pytest.fixture
def crafts(heard: Overheard) -> Iterator[None]:
    """A lax base, a strict class below it, and below that one a lax one; one document of each."""
    Craft.objects.insert([Craft(number=1, name="a"), Airship(number=2, name="a"), Blimp(number=3, name="a")])
    with configured():
        track(Craft)
        track(Airship, require_reason=True)
        track(Blimp, require_reason=False)
        yield
        for document_class in (Craft, Airship, Blimp):
            untrack(document_class)


def test_classes_of_one_collection_that_differ(crafts: None, heard: Overheard) -> None:
    """Each document by its own class's word: the filter decides, whichever class the write goes through."""
    Craft.objects.get(number=1).update(name="b")
    Craft.objects.get(number=3).update(name="b")
    Craft.objects(number__in=[1, 3]).update(name="c")
    Craft(number=4).save()
    Blimp(number=5).save()
    refused: list[Callable[[], Any]] = [
        lambda: Craft.objects.get(number=2).update(name="b"),
        lambda: Craft.objects(number=2).update(name="b"),
        lambda: Craft.objects.update(name="b"),
        lambda: Craft.objects(name="a").delete(),
        lambda: Airship.objects.update(name="b"),
        lambda: Airship.objects(number=2).upsert_one(name="b"),
        lambda: Airship(number=6).save(),
        lambda: Craft._get_collection().insert_many([{"_id": 8}, {"_id": 7, "_cls": "Craft.Airship"}]),
        lambda: Craft._get_collection().bulk_write([DeleteOne({"_id": 1}), DeleteOne({"_id": 2})]),
        Craft.drop_collection,
    ]
    before = raw()
    heard.commands.clear()
    for write in refused:
        with pytest.raises(ReasonRequiredError, match="Airship"):
            write()
    assert heard.writes() == []
    assert raw() == before
    Craft._get_collection().bulk_write([DeleteOne({"_id": 1}), DeleteOne({"_id": 3})])
    assert sorted(Craft.objects.scalar("number")) == [2, 4, 5]
    with rationale("why"):
        for write in refused:
            write()


def test_classes_of_one_collection_and_ways_back(crafts: None) -> None:
    """A class's history asked through its base is judged document by document."""
    with rationale("why"):
        Craft.objects.update(name="b")
    for number in (1, 3):
        history_of(Craft, number).revert()
    with pytest.raises(ReasonRequiredError, match="Airship"):
        history_of(Craft, 2).revert()
    with rationale("gone"):
        Craft.objects.delete()
    with pytest.raises(ReasonRequiredError, match="Airship"):
        history_of(Craft, 2).revert()
    history_of(Craft, 3).revert()
    assert list(Craft.objects.scalar("number")) == [3]


def test_a_refused_write_leaves_the_instance_as_it_was(heard: Overheard) -> None:
    """It can be saved once there is a reason; appended info is not used up."""
    with strict():
        documents = list(Voucher.objects)
        for document in documents:
            document.name = "b"
            with pytest.raises(ReasonRequiredError):
                document.save()
        append_change_info(documents[1], scanner=1)
        with pytest.raises(ReasonRequiredError):
            documents[1].save()
        with rationale("why") as _, changeset() as c:
            for document in documents:
                document.save()
        assert [v.extra for v in c.versions()] == [{}, {"scanner": 1}, {}]
        assert changesets(reason="why") == [c]


def test_errors_cross_process_borders() -> None:
    """As all errors of the package do."""
    import pickle

    error = pickle.loads(pickle.dumps(ReasonRequiredError("no reason", collection="db.c")))
    assert (type(error), str(error), error.collection) == (ReasonRequiredError, "no reason", "db.c")
