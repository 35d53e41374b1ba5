"""Who, from where and why: the project's own callables, their place among the blocks, and what becomes of bad ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import mongoengine
import pytest
from bson import ObjectId
from django.core.checks import Error
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from mongoengine import fields
from pymongo.database import Database

from django_mongo_history import (
    HiddenFieldError,
    UntrackedFieldError,
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
from django_mongo_history.checks.project import check_callables, check_values
from django_mongo_history.context import capture_context
from django_mongo_history.core.model import Context
from django_mongo_history.middleware import HistoryMiddleware
from tests.judge import HISTORY, configured, tracking

OURS = logging.getLogger("django_mongo_history").name


class Packet(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    secret = fields.StringField()
    hits = fields.IntField()
    meta = {"collection": "packet", "allow_inheritance": True}

    @classmethod
    def whoever(cls, document_class: type) -> str:
        return f"{cls.__name__} asked about {document_class.__name__}"


class Letter(Packet):
    pass


class Postcard(Letter):
    pass


class Stamped(mongoengine.Document):
    """Another class, under the project's rules alone."""

    number = fields.IntField(primary_key=True)
    meta = {"collection": "stamped_change_info"}


class Coffer(mongoengine.Document):
    number = fields.IntField(primary_key=True)
    name = fields.StringField()
    pin = fields.StringField()
    key = fields.StringField(db_field="k")
    cards = fields.ListField(fields.DictField())
    meta = {"collection": "coffer"}


class Asked:
    """A callable that keeps what it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.classes: list[str] = []

    def __call__(self, document_class: type) -> Any:
        self.classes.append(document_class.__name__)
        return self.answer(document_class) if callable(self.answer) else self.answer


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(mongodb: Database) -> Iterator[None]:
    yield
    assert capture_context().context == Context()


def three(document_class: type = Packet, **values: Any) -> list[Any]:
    """Three documents at once: what is said of one must not be told of another."""
    return [document_class(number=number, name="a", **values).save() for number in (1, 2, 3)]


def told(document: Any, place: int = -1) -> Any:
    """User, address, reason and extra of a version."""
    v = document.history[place]
    return None if v.user is None else v.user.pk, v.remote_addr, v.reason, v.extra


# -- callables of the project and of a class --------------------------------------------------------------------------


def test_callables_of_the_project_are_asked_at_each_write() -> None:
    """Once for each call, with the class that is written, however many documents it writes."""
    user = Asked(lambda document_class: f"of {document_class.__name__}")
    extra = Asked({"shift": 2, "reason": "by rule"})
    settings = {"GET_USER": user, "GET_REMOTE_ADDR": lambda _: "10.0.0.1", "GET_EXTRA": extra}
    documents = [*three(), Stamped(number=1).save()]
    with configured(**settings), tracking(Packet, Stamped):
        for document in documents:
            document.update(set__number=document.number, upsert=True)
        documents[3].delete()
        Packet.objects.update(name="b")
        documents[1].delete()
    assert user.classes == ["Packet"] * 3 + ["Stamped"] * 2 + ["Packet"] * 2
    assert extra.classes == user.classes
    with tracking(Packet, Stamped):
        for document in documents[:3]:
            assert told(document) == ("of Packet", "10.0.0.1", "by rule", {"shift": 2})
        assert told(documents[3])[0] == "of Stamped"
        assert documents[1].history[-1].operation == "delete"


def test_drops_and_baselines_ask_too(mongodb: Database) -> None:
    """What leaves a tombstone or a stored baseline says who did it in the same way."""
    Packet._get_collection().insert_one({"_id": 9, "_cls": "Packet", "name": "old"})
    with configured(GET_USER=lambda _: "ann"), tracking(Packet):
        from django.core.management import call_command

        call_command("history_baseline", document=[f"{Packet.__module__}.Packet"], verbosity=0)
        three()
        Packet.drop_collection()
        assert [v.operation for v in history_of(Packet, 9)] == ["baseline", "delete"]
        assert [v.user.pk for v in history_of(Packet, 9)] == ["ann", "ann"]
        assert history_of(Packet, 1)[-1].user.pk == "ann"


def test_a_class_s_own_callables_come_first() -> None:
    """The class's, its bases', the project's, the request's: NotImplemented hands the question on."""
    project = {
        "GET_USER": lambda _: "project",
        "GET_REMOTE_ADDR": lambda _: "0.0.0.1",
        "GET_EXTRA": lambda _: {"a": 1, "b": 1, "c": 1},
    }
    with (
        configured(**project),
        tracking(Packet, get_user=lambda _: "base", get_extra=lambda _: {"b": 2, "c": 2}),
        tracking(Letter, get_user=lambda _: NotImplemented, get_extra=lambda _: {"c": 3}),
    ):
        letter = Letter(number=1).save()
        packet = Packet(number=2).save()
        card = Postcard(number=3).save()
        assert told(letter) == ("base", "0.0.0.1", None, {"a": 1, "b": 2, "c": 3})
        assert told(card) == told(letter)
        assert told(packet) == ("base", "0.0.0.1", None, {"a": 1, "b": 2, "c": 2})


def test_documents_of_several_classes_in_one_call() -> None:
    """Each version is told about by its own document's class, and the call is one changeset."""
    with (
        configured(GET_USER=lambda _: "project"),
        tracking(Packet),
        tracking(Letter, get_user=lambda document_class: f"of {document_class.__name__}"),
    ):
        made = [Packet(number=1).save(), Letter(number=2).save(), Postcard(number=3).save()]
        Packet.objects.update(name="b")
        assert [told(one)[0] for one in made] == ["project", "of Letter", "of Postcard"]
        assert len({one.history[-1].changeset for one in made}) == 1
        Packet.objects.delete()
        assert [told(one)[0] for one in made] == ["project", "of Letter", "of Postcard"]


@pytest.mark.parametrize("how", ["path", "method", "track"])
def test_dotted_paths_and_methods(how: str) -> None:
    """A callable is named by its path, through classes too, or given itself."""
    path = f"{__name__}.Packet.whoever"
    settings = {"GET_USER": path} if how == "path" else {}
    options = {"path": {}, "method": {"get_user": path}, "track": {"get_user": Packet.whoever}}[how]
    with configured(**settings), tracking(Packet, **options):
        assert told(Letter(number=1).save())[0] == "Packet asked about Letter"


def test_an_entry_of_the_settings(settings: Any) -> None:
    """The same in `TRACKED_DOCUMENTS`."""
    label = f"{Packet.__module__}.Packet"
    settings.MONGO_HISTORY = {"GET_USER": lambda _: "project"}
    settings.TRACKED_DOCUMENTS = [
        {"document": label, "get_user": lambda _: "entry", "get_extra": lambda _: {"by": "entry"}}
    ]
    documents = three()
    assert {told(document)[0] for document in documents} == {"entry"}
    assert told(documents[2])[3] == {"by": "entry"}


# -- precedence -------------------------------------------------------------------------------------------------------


def test_blocks_go_over_callables_and_appended_info_over_blocks() -> None:
    """callable < block < appended, key by key."""
    settings = {
        "GET_USER": lambda _: "callable",
        "GET_REMOTE_ADDR": lambda _: "10.0.0.1",
        "GET_EXTRA": lambda _: {"a": "callable", "b": "callable", "c": "callable", "reason": "callable"},
    }
    with configured(**settings), tracking(Packet):
        first, second, third = three()
        with changeset(user="block", reason="block", b="block", c="block"):
            append_change_info(second, c="appended", reason="appended")
            Packet.objects.update(name="b")
        abc = {"a": "callable", "b": "block", "c": "block"}
        assert told(first) == told(third) == ("block", "10.0.0.1", "block", abc)
        assert told(second) == ("block", "10.0.0.1", "appended", {**abc, "c": "appended"})
        with changeset(user=None, remote_addr=None):  # nobody is somebody, too
            first.update(name="c")
        assert told(first)[:3] == (None, None, "callable")
        first.update(name="d")
        assert told(first)[0] == "callable"


def test_callables_go_over_what_the_request_says_and_blocks_in_views_over_them() -> None:
    """They replace how requests are found out about; a block in the view says it outright."""

    def view(request: HttpRequest) -> HttpResponse:
        request.user = "of the request"  # type: ignore[assignment]
        _first, second, third = three()
        with changeset(user="of the block"):
            second.update(name="b")
        third.update(name="b")
        return HttpResponse()

    def run(**settings: Any) -> list[Any]:
        Packet.objects.delete()
        with configured(**settings), tracking(Packet):
            HistoryMiddleware(view)(RequestFactory().get("/x", REMOTE_ADDR="10.9.9.9"))
            return [told(document)[:2] for document in Packet.objects.order_by("number")]

    plain = ("of the request", "10.9.9.9")
    assert run() == [plain, ("of the block", "10.9.9.9"), plain]
    asked = ("callable", None)
    found = run(GET_USER=lambda _: "callable", GET_REMOTE_ADDR=lambda _: None)
    assert found == [asked, ("of the block", None), asked]
    deferring = {"GET_USER": lambda _: NotImplemented, "GET_REMOTE_ADDR": lambda _: NotImplemented}
    assert run(**deferring) == [plain, ("of the block", "10.9.9.9"), plain]


# -- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "wanted", "said"),
    [
        ({"GET_USER": lambda _: 1 / 0}, (None, None, None, {}), "user"),
        ({"GET_USER": lambda _: object()}, (None, None, None, {}), "user"),
        ({"GET_USER": f"{__name__}.gone"}, (None, None, None, {}), "gone"),
        ({"GET_REMOTE_ADDR": lambda _: 1 / 0}, (None, None, None, {}), "remote address"),
        ({"GET_REMOTE_ADDR": lambda _: 127}, (None, None, None, {}), "remote address"),
        ({"GET_EXTRA": lambda _: 1 / 0}, (None, None, None, {}), "failed"),
        ({"GET_EXTRA": lambda _: 7}, (None, None, None, {}), "failed"),
        (
            {"GET_EXTRA": lambda _: {"a": 1, "b": object()}},
            (None, None, None, {"a": 1}),
            "no version can carry",
        ),
        ({"GET_EXTRA": lambda _: {"a": 1, 2: 3}}, (None, None, None, {"a": 1}), "no version can carry"),
    ],
)
def test_a_callable_that_fails(
    settings: dict[str, Any], wanted: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The write is made, its version lacks what the callable owed, and the log says which one it was."""
    documents = three()
    with configured(**settings), tracking(Packet), caplog.at_level(logging.WARNING, OURS):
        for document in documents:
            document.update(name="b")
            assert told(document) == wanted
    assert len([record for record in caplog.records if said in record.getMessage()]) == 3
    assert Packet.objects(name="b").count() == 3


def test_a_callable_that_writes_is_not_asked_about_its_own_write() -> None:
    """It would never end. What it writes is recorded, by nobody."""

    def find(_: type) -> str:
        Stamped.objects(number=1).update(upsert=True, set__number=1)
        return "ann"

    with configured(GET_USER=find), tracking(Packet, Stamped):
        documents = three()
        assert {told(document)[0] for document in documents} == {"ann"}
        assert told(Stamped.objects.get())[0] is None


def test_what_a_callable_gives_is_copied() -> None:
    """A constant that it hands out at each write does not change, nor do versions with it."""
    constant: dict[str, Any] = {"nested": {"a": [1]}, "reason": "why"}
    with configured(GET_EXTRA=lambda _: constant), tracking(Packet):
        first, second, third = three()
        with extra_change_info(more=1):
            second.update(name="b")
        assert constant == {"nested": {"a": [1]}, "reason": "why"}
        constant["nested"]["a"].append(2)
        assert first.history[-1].extra == {"nested": {"a": [1]}}
        third.update(name="b")
        assert third.history[-1].extra == {"nested": {"a": [1, 2]}}


def test_checks_name_what_cannot_be_called(settings: Any) -> None:
    """A path that leads nowhere is an error at start-up, a value that is neither callable nor path another."""
    label = f"{Packet.__module__}.Packet"
    settings.TRACKED_DOCUMENTS = [{"document": label, "get_extra": f"{__name__}.nowhere"}]
    settings.MONGO_HISTORY = {"GET_USER": "no.such.module", "GET_EXTRA": f"{__name__}.Packet.whoever"}
    messages = check_callables()
    assert [type(message) for message in messages] == [Error, Error]
    assert {message.id for message in messages} == {"mongo_history.E011"}
    assert "'GET_USER'" in messages[0].msg
    assert "'get_extra'" in messages[1].msg
    settings.TRACKED_DOCUMENTS = []
    settings.MONGO_HISTORY = {"GET_USER": 7, "REQUIRE_REASON": "yes"}
    assert [message.id for message in check_values()] == ["mongo_history.E002"] * 2
    with pytest.raises(ValueError, match="expected a callable"):
        track(Packet, get_user=7)  # type: ignore[arg-type]


# -- blocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reason", "rationale"])
def test_a_reason_among_extra_values_is_the_reason(name: str) -> None:
    """Wherever it is given; what is no text stays what it is."""
    with configured(), tracking(Packet):
        first, second, third = three()
        with extra_change_info(**{name: "why"}, ticket=7):
            first.update(name="b")
            with rationale("inner"):
                second.update(name="b")
        append_change_info(third, **{name: "appended"})
        third.update(name="b")
        assert told(first)[2:] == ("why", {"ticket": 7})
        assert told(second)[2:] == ("inner", {"ticket": 7})
        assert told(third)[2:] == ("appended", {})
        with extra_change_info(**{name: 5}):
            first.update(name="c")
        assert told(first)[2:] == (None, {name: 5})


def test_appended_info_is_for_the_next_version_of_that_document_only() -> None:
    """Not for its neighbours, not for later ones, not for a write that failed or changed nothing."""
    with configured(), tracking(Packet):
        first, second, third = three()
        append_change_info(second, scanner=3)
        first.update(name="b")
        second.update(name="a")  # as it is already
        with pytest.raises(mongoengine.errors.OperationError):
            second.update(__raw__={"$set": {"_id": 77}})
        Packet.objects.update(name="c")
        Packet.objects.update(name="d")
        extras = [[v.extra for v in one.history] for one in (first, second, third)]
        assert extras == [[{}, {}, {}, {}], [{}, {"scanner": 3}, {}], [{}, {}, {}]]


@pytest.mark.usefixtures("mongodb")
def test_info_that_a_callable_appends_counts_for_the_write_that_it_was_asked_about() -> None:
    """For the document itself, and for those of the same call that come after it; and for no later write."""
    letters = [Letter(number=number, name="a").save() for number in (1, 2)]
    told: list[type] = []

    def find_extra(document_class: type) -> dict[str, str]:
        if not told:
            told.append(document_class)
            for one in letters:
                append_change_info(one, note=f"of {one.number}")
        return {}

    with configured(), tracking(Packet), tracking(Letter, get_extra=find_extra):
        for name in ("b", "c"):
            Packet.objects.update(set__name=name)
        notes = [[v.extra.get("note") for v in one.history if v.operation == "update"] for one in letters]
    assert told == [Letter]
    assert notes == [["of 1", None], ["of 2", None]]


def test_blocks_end_with_exceptions() -> None:
    """A reason does not outlive the block that failed."""
    with configured(), tracking(Packet):
        documents = three()
        for block in (rationale("no"), extra_change_info(no=1), changeset(user="no", reason="no")):
            with pytest.raises(mongoengine.InvalidQueryError), block:
                documents[0].update(nothing_of_the_kind="x")
        for number, document in enumerate(documents):
            document.update(name=f"y{number}")
            assert told(document) == (None, None, None, {})


def test_suppression_nests_and_ends() -> None:
    """Nothing inside is recorded, of nobody; after it everything is."""
    with configured(), tracking(Packet):
        first, second, third = three()
        with suppress_history("outer"):
            with suppress_history("inner"):
                first.update(name="b")
            with pytest.raises(mongoengine.InvalidQueryError), suppress_history("inner"):
                first.update(nothing_of_the_kind="b")
            second.update(name="b")
        third.update(name="b")
        operations = [[v.operation for v in one.history] for one in (first, second, third)]
        assert operations == [["create", "external"], ["create", "external"], ["create", "update"]]


# -- hidden and untracked ---------------------------------------------------------------------------------------------


def test_hidden_and_untracked_fields_have_their_errors() -> None:
    """Both are AttributeError and KeyError: `hasattr` and `in`-like code hold. An unknown field is neither."""
    with configured(), tracking(Packet, hidden=["secret"], untracked=["hits"]):
        for document in three(secret="x", hits=1):
            v = document.history[-1]
            for name, error in (("secret", HiddenFieldError), ("hits", UntrackedFieldError)):
                for kind in (error, AttributeError, KeyError):
                    with pytest.raises(kind, match=name):
                        getattr(v, name)
                    with pytest.raises(kind, match=name):
                        v[name]
                assert not hasattr(v, name)
            assert not hasattr(v, "nothing")
            with pytest.raises(AttributeError) as caught:
                _ = v.nothing
            assert not isinstance(caught.value, (HiddenFieldError, UntrackedFieldError))


def hidden_paths(found: list[Any]) -> list[tuple[Any, ...]]:
    return [(change.path, change.old, change.new) for change in found if "HIDDEN" in repr(change)]


def test_diff_with_hidden_paths(mongodb: Database) -> None:
    """Each that was written in between, as a marker; none of the values anywhere in the answer or the store."""

    with configured(), tracking(Coffer, hidden=["pin", "key", "cards.number"]):
        made = [Coffer(number=n, name="a", pin=f"SECRET{n}").save() for n in (1, 2, 3)]
        first, second, third = made
        second.update(pin="SECRET-b", name="b")
        second.update(key="SECRET-c")
        second.update(cards=[{"number": "SECRET-d", "until": 1}])
        third.update(name="c")
        second.update(name="d")
        h = second.history
        every = [(("cards", "number"), *_both()), (("k",), *_both()), (("pin",), *_both())]
        assert hidden_paths(h.diff(1, 5, include_hidden=True)) == every
        assert hidden_paths(h.diff(1, include_hidden=True)) == every
        assert hidden_paths(h.diff(5, 1, include_hidden=True)) == every
        assert hidden_paths(h.diff(h[0], h[1], include_hidden=True)) == every[2:]
        assert hidden_paths(h.diff(h[1].at, h[2].at, include_hidden=True)) == every[1:2]
        assert hidden_paths(h.diff(4, 5, include_hidden=True)) == []
        assert hidden_paths(h.diff(1, 5)) == []
        assert [change.path for change in h.diff(4, 5, include_hidden=True)] == [("name",)]
        assert hidden_paths(third.history.diff(1, 2, include_hidden=True)) == []
        assert hidden_paths(first.history.diff(1, include_hidden=True)) == []
        assert "SECRET" not in repr(h.diff(1, include_hidden=True))
        assert "SECRET" not in repr(list(mongodb[HISTORY].find()))


def test_diff_shows_what_was_hidden_later_as_a_marker() -> None:
    """Today's rules count: a path that was tracked then is not shown with its values now."""
    with configured():
        with tracking(Packet):
            documents = three(secret="SECRET1")
            for document in documents[1:]:
                document.update(secret="SECRET2", name="b")
        with tracking(Packet, hidden=["secret"]):
            found = [one.history.diff(1, include_hidden=True) for one in documents]
            assert [hidden_paths(one) for one in found] == [[], *[[(("secret",), *_both())]] * 2]
            assert "SECRET" not in repr(found)


def _both() -> tuple[Any, Any]:
    from django_mongo_history import HIDDEN

    return HIDDEN, HIDDEN


def test_diff_takes_versions_numbers_and_moments() -> None:
    """All mean the same; either order; what is none of them, or of another document, is an error."""
    with configured(), tracking(Packet):
        first, second, third = three()
        for name in ("b", "c"):
            for document in (first, second, third):
                document.update(name=name)
        h = second.history
        wanted = h.diff(1, 3)
        assert [(change.old, change.new) for change in wanted] == [("a", "c")]
        assert h.diff(h[0], h[2]) == h.diff(h[0].at, h[2].at) == h.diff(1) == h.diff(h[0], 3) == wanted
        assert [(change.old, change.new) for change in h.diff(3, 1)] == [("c", "a")]
        assert h.diff(2, 2) == h.diff(h[1].at, h[1].at) == []
        from django_mongo_history import VersionNotFoundError

        for wrong in (0, -1, 4, first.history[0]):
            with pytest.raises(VersionNotFoundError):
                h.diff(wrong)
            with pytest.raises(VersionNotFoundError):
                h.diff(1, wrong)
        for kind, wrong in (
            (TypeError, "1"),
            (TypeError, True),
            (TypeError, 1.0),
            (ValueError, h[0].at.replace(tzinfo=None)),
        ):
            with pytest.raises(kind):
                h.diff(wrong)
        assert [v.previous.number for v in h[1:]] == [1, 2]
        assert [v.index for v in h] == [0, 1, 2]


def test_changesets_tell_the_callables_answers() -> None:
    """What callables said can be asked for like what blocks said."""
    with configured(GET_USER=lambda _: "ann", GET_EXTRA=lambda _: {"reason": "by rule"}), tracking(Packet):
        with changeset() as c:
            three()
        assert changesets(user="ann", reason="by rule") == [c]
        assert (c.user.pk, c.reason, len(c.versions())) == ("ann", "by rule", 3)


def test_users_of_every_kind() -> None:
    """What a callable may answer: a key, an ObjectId, an object with pk and a name, None."""

    class Person:
        pk = 7

        def __str__(self) -> str:
            return "Grace"

    key = ObjectId()
    answers: list[Any] = [key, Person(), None]
    finder: Callable[[type], Any] = lambda _: answers.pop(0)  # noqa: E731
    documents = three()
    with configured(GET_USER=finder), tracking(Packet):
        for document in documents:
            document.update(name="b")
    with tracking(Packet):
        found = [document.history[-1].user for document in documents]
    assert [None if user is None else (user.pk, user.label, user.model) for user in found] == [
        (key, str(key), None),
        (7, "Grace", "Person"),
        None,
    ]


def test_untracking_forgets_a_class_s_callables() -> None:
    """Nothing of them is left on the class."""
    with configured():
        track(Packet, get_user=lambda _: "old")
        track(Packet)
        assert told(Packet(number=1).save())[0] is None
        untrack(Packet)
