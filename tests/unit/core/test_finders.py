"""Finders: who is asked, in which order."""

from __future__ import annotations

from django_mongo_history.core.finders import NO_FINDERS, Finders


def ann(_: type) -> str:
    return "ann"


def ben(_: type) -> str:
    return "ben"


def test_the_nearest_is_asked_first() -> None:
    """Each of the three by itself; nothing stands for nobody."""
    near, far = Finders(user=(ann,), extra=(ann,)), Finders(user=(ben,), remote_addr=(ben,))
    assert near.before(far) == Finders(user=(ann, ben), remote_addr=(ben,), extra=(ann,))
    assert near.before(NO_FINDERS) == NO_FINDERS.before(near) == near
    assert [bool(one) for one in (near, far, NO_FINDERS)] == [True, True, False]
