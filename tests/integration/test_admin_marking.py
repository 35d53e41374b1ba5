"""Changed words are marked, up to a bound for the whole page; where it ends the page says so and shows the texts as they are."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Any

import mongoengine
import pytest
from django.test import Client
from mongoengine import fields

from django_mongo_history import changeset, history_of
from django_mongo_history.admin import history_url, words
from tests.admin_pages import page, text_of
from tests.judge import configured, tracking

pytestmark = [pytest.mark.django_db]
NOTE = "the changed words are not marked"


class Essay(mongoengine.DynamicDocument):
    number = fields.IntField(primary_key=True)
    meta = {"collection": "essays"}


@pytest.fixture
def desk(mongodb: Any) -> Iterator[Any]:
    with configured(), tracking(Essay):
        yield mongodb


@pytest.fixture
def staff(admin_client: Client) -> Client:
    return admin_client


def hard(letter: str) -> str:
    """A text that takes long to compare with one of another letter: the same dot between words that all differ."""
    return ".".join(f"{letter}{number}" for number in range(150))


def easy(letter: str) -> str:
    return f"the third word of this text is {letter} and no other one"


def written(text: Any, *, parts: int, versions: int, number: int = 1) -> None:
    """An essay of that many texts, all of them written anew in each version."""
    Essay(number=number, **{f"part_{one}": text("a") for one in range(parts)}).save()
    for letter in "bcdefghijklmnopqrstuvwxyz"[: versions - 1]:
        rewrite(text(letter), parts)


def rewrite(text: str, parts: int) -> None:
    Essay.objects.update(__raw__={"$set": {f"part_{one}": text for one in range(parts)}})


def test_usual_texts_are_all_marked(staff: Client, desk: Any) -> None:
    """On a full page of them."""
    written(easy, parts=20, versions=20)
    text = text_of(staff, history_url(Essay, 1))
    assert text.count("<ins>") == 19 * 20
    assert NOTE not in text


def test_a_page_of_hard_texts_is_marked_in_part(
    staff: Client, desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each text that is not compared says so; both of its sides are there."""
    written(hard, parts=20, versions=20)
    compared: list[int] = []

    class Counted(SequenceMatcher):  # type: ignore[type-arg]
        def get_opcodes(self) -> Any:
            compared.append(len(self.a) * len(self.b))
            return super().get_opcodes()

    monkeypatch.setattr(words, "SequenceMatcher", Counted)
    text = text_of(staff, history_url(Essay, 1))
    assert 1 <= len(compared) < 10
    assert text.count(NOTE) == 19 * 20 - len(compared)
    assert "<ins>" in text
    assert text.count("b149</span>") >= 20 * 2 - len(compared), "both sides of each are there"


def test_the_documents_of_a_preview_share_the_bound(staff: Client, desk: Any) -> None:
    """A preview may show fifty of them."""
    for number in range(1, 4):
        written(hard, parts=5, versions=1, number=number)
    with changeset() as made:
        rewrite(hard("z"), 5)
    text = text_of(staff, page("take_back_changeset", made))
    assert 0 < text.count(NOTE) < 15
    assert "3 documents will be changed" in text


def test_a_single_change_is_always_marked(staff: Client, desk: Any) -> None:
    """However hard it is."""
    written(hard, parts=1, versions=2)
    version = history_of(Essay, 1)[1].id
    text = text_of(staff, f"{history_url(Essay, 1)}version/{version}/")
    assert "<ins>" in text
    assert NOTE not in text
