"""One of the processes that take turns: without the package, or with it; answers how long a call took, in seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import mongoengine

from management.benchmarks.children import answer, questions, told
from management.benchmarks.rounds import timed, timed_clean
from management.benchmarks.surroundings import Place, collection_of, connect, set_up_django

PACKAGE = "django_mongo_history"
FEW, MANY = 20, 1_000
"""Short calls are made several times for one figure."""


class ReadsBook(mongoengine.Document):  # type: ignore[misc]
    """The class that is measured."""

    number = mongoengine.IntField(primary_key=True)
    title = mongoengine.StringField()
    text = mongoengine.StringField()
    count = mongoengine.IntField()


class ReadsOther(mongoengine.Document):  # type: ignore[misc]
    """What is tracked where the package is active and the measured class is not tracked."""

    name = mongoengine.StringField()


def main() -> None:
    said = told()
    kind = said["kind"]
    ReadsBook._meta["collection"] = f"book_{kind}"  # noqa: SLF001 - each process has its own documents
    tracked = {"untracked": [f"{__name__}.ReadsOther"], "tracked": [f"{__name__}.ReadsBook"]}.get(kind)
    if tracked is None:
        set_up_django()
        assert PACKAGE not in sys.modules
    else:
        set_up_django(apps=[PACKAGE], TRACKED_DOCUMENTS=tracked)
    connect(Place(*said["place"]))
    for question in questions():
        answer(_answered(question))


def _answered(question: dict[str, Any]) -> float:
    if question["call"] != "get ready":
        return CALLS[question["call"]](question["number"])
    collection_of(ReadsBook).delete_many({})
    ReadsOther(name="one").save()
    for book in _books(MANY):
        book.save(force_insert=True)
    return 0.0


def _books(count: int, first: int = 0) -> list[ReadsBook]:
    numbers = range(first, first + count)
    return [ReadsBook(number=one, title=f"Book {one}", text="x" * 150, count=0) for one in numbers]


def _get(_number: int) -> float:
    return timed(lambda: [ReadsBook.objects.get(number=one) for one in range(FEW)])


def _list(_number: int) -> float:
    return timed_clean(lambda: list(ReadsBook.objects))


def _count(_number: int) -> float:
    return timed(lambda: [ReadsBook.objects(count=0).count() for _ in range(FEW)])


def _reload(_number: int) -> float:
    books = list(ReadsBook.objects[:FEW])
    return timed(lambda: [book.reload() for book in books])


def _save(number: int) -> float:
    books = list(ReadsBook.objects[:FEW])
    for book in books:
        book.text = f"{number:0150}"
    return timed(lambda: [book.save() for book in books])


def _create(number: int) -> float:
    books = _books(FEW, number * MANY)
    seconds = timed(lambda: [book.save(force_insert=True) for book in books])
    ReadsBook.objects(number__gte=MANY).delete()
    return seconds


def _update_one(number: int) -> float:
    return timed(lambda: [ReadsBook.objects(number=one).update(text=str(number)) for one in range(FEW)])


def _insert(number: int) -> float:
    insert = partial(ReadsBook.objects.insert, _books(MANY, number * MANY), load_bulk=False)
    seconds = timed_clean(insert)
    ReadsBook.objects(number__gte=MANY).delete()
    return seconds


def _update_many(number: int) -> float:
    return timed_clean(lambda: ReadsBook.objects(number__lt=MANY).update(text=f"{number:0150}"))


READS: dict[str, Callable[[int], float]] = {
    "`objects.get` of one": _get,
    "a queryset of 1,000": _list,
    "`count`": _count,
    "`reload`": _reload,
}
CALLS: dict[str, Callable[[int], float]] = {
    **READS,
    "`save` of a changed document": _save,
    "`save` of a new document": _create,
    "`update` of one": _update_one,
    "`insert` of 1,000": _insert,
    "`update` of 1,000": _update_many,
}

if __name__ == "__main__":
    main()
