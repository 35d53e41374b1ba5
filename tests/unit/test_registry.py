"""Which classes are tracked, and under which policy. Plain classes: the registry knows no MongoEngine."""

from __future__ import annotations

import pytest

from django_mongo_history.core.policy import Policy
from django_mongo_history.errors import NotTrackedError
from django_mongo_history.registry import Registry, Tracked, label_of


class Place:
    pass


class City(Place):
    pass


class Capital(City):
    pass


class Stranger:
    pass


NAMES = {"Place": Place, "Place.City": City, "Stranger": Stranger}


def registry(*tracked: Tracked) -> Registry:
    found = Registry(NAMES.get)
    for one in tracked:
        found.add(one)
    return found


def tracked(document_class: type, **rules: object) -> Tracked:
    return Tracked(document_class, label_of(document_class), **rules)  # type: ignore[arg-type]


def test_a_subclass_is_tracked_with_its_base() -> None:
    """Registering a class tracks what inherits from it."""
    assert registry(tracked(Place)).require(Capital).label == label_of(Capital)


def test_a_base_is_not_tracked_with_its_subclass() -> None:
    """Registering a class says nothing about what it inherits from."""
    assert registry(tracked(City)).get(Place) is None


def test_a_subclass_is_under_its_own_rules_and_its_bases() -> None:
    """Hidden and untracked paths of the whole lineage hold."""
    found = registry(
        tracked(Place, policy=Policy(hidden=(("a",),))),
        tracked(City, policy=Policy(hidden=(("b",),), untracked=(("c",),), snapshot_every=5)),
    ).require(Capital)
    assert found.policy == Policy(hidden=(("a",), ("b",)), untracked=(("c",),), snapshot_every=5)


def test_a_delivery_is_that_of_the_nearest_class() -> None:
    """A subclass's own mode outweighs its base's; without one the base's holds."""
    found = registry(tracked(Place, delivery="sync"), tracked(City), tracked(Capital, delivery="atomic"))
    assert [found.require(one).delivery for one in (Place, City, Capital)] == ["sync", "sync", "atomic"]


def test_renamed_fields_of_the_lineage_hold_together() -> None:
    """The nearest class's own names win."""
    found = registry(tracked(Place, renamed={"old": "a", "x": "b"}), tracked(City, renamed={"old": "c"}))
    assert found.require(City).renamed == {"old": "c", "x": "b"}


def test_registering_again_replaces_the_rules() -> None:
    """The last word holds, for subclasses that were asked for before too."""
    found = registry(tracked(Place, policy=Policy(hidden=(("a",),))))
    found.require(City)
    found.add(tracked(Place))
    assert found.require(City).policy == Policy()


def test_a_class_that_is_not_tracked_is_said_to_be_so() -> None:
    """The error names the class and the way to track it."""
    with pytest.raises(NotTrackedError, match=r"Stranger is not tracked.*TRACKED_DOCUMENTS") as raised:
        registry().require(Stranger)
    assert raised.value.document_class is Stranger


def test_removing_undoes_adding() -> None:
    """For the class and all that was tracked with it."""
    found = registry(tracked(Place))
    found.get(City)
    found.remove(Place)
    assert (found.get(Place), found.get(City), list(found)) == (None, None, [])


def test_only_what_was_registered_can_be_removed() -> None:
    """A subclass that is tracked with its base cannot be taken out alone."""
    with pytest.raises(NotTrackedError):
        registry(tracked(Place)).remove(City)


def test_the_registered_classes_can_be_walked_while_they_change() -> None:
    """Whoever walks them may add and remove."""
    found = registry(tracked(Place), tracked(Stranger))
    for one in found:
        found.remove(one.document_class)
    assert list(found) == []


@pytest.mark.parametrize(
    ("class_name", "expected"),
    [("Place.City", City), ("Stranger", None), ("Gone", Place), (None, Place)],
)
def test_a_stored_document_is_of_the_class_it_names(class_name: str | None, expected: type | None) -> None:
    """Its `_cls` decides whether it is tracked; without one, or with an unknown one, the class that writes it does."""
    found = registry(tracked(Place)).of_image(class_name, Place)
    assert (None if found is None else found.document_class) is expected


def test_a_neighbour_is_concerned() -> None:
    """An untracked class that writes to a tracked class's collection is watched, its subclasses with it."""
    found = registry(tracked(Place))
    found.adopt(Stranger, Place)
    neighbour = found.concerned(type("More", (Stranger,), {}))
    assert neighbour is not None
    assert (neighbour.document_class, found.get(Stranger)) == (Place, None)


def test_a_neighbour_is_forgotten_with_its_class() -> None:
    """Nobody is watched for a class that is no longer tracked."""
    found = registry(tracked(Place))
    found.adopt(Stranger, Place)
    found.remove(Place)
    assert not found.concerns(Stranger)
