"""
What is in force at this moment, and the blocks that change it while they last.

The one context variable of the package lives here. The house rule of tokens is kept in another form, see
Note [Frames instead of tokens].
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar, cast

from bson import ObjectId

from django_mongo_history.context.scopes import Scope
from django_mongo_history.context.storable import Slot
from django_mongo_history.context.users import User
from django_mongo_history.core.model import RequestRef, TaskRef

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
U = TypeVar("U")


class Note:
    """Appended info. One object in every context that has copied it, so that only one write takes it."""

    __slots__ = ("extra", "is_spent")

    def __init__(self, extra: dict[str, Any]) -> None:
        self.extra = extra
        self.is_spent = False


Notes = Mapping[Slot, tuple[Note, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """
    What is in force, and the frame to go back to.

    Note [Frames instead of tokens]
    A token can be used in the context that made it only, and holds that whole context as long as it lives itself; and
    a block that kept its tokens could not be shared by threads. A frame knows the one around it, which is the value
    that the token would bring back, so leaving a block works without either: in a fixture's teardown or in a generator
    that another task closes (`tests/unit/test_context.py::test_leaving_*`).
    """

    opener: object = None
    outer: Frame | None = None
    changeset: ObjectId | None = None
    user: User = field(default_factory=User)
    remote_addr: str | None = None
    reason: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    request: RequestRef | None = None
    task: TaskRef | None = None
    is_inherited: bool = False
    """Whether a task has it from whoever published it, so that the project's own finders have been asked there."""
    suppressed: str | None = None
    given: frozenset[str] = frozenset()
    """What a block itself has said (`user`, `remote_addr`), so that the project's own finders are not asked for it."""
    notes: Notes = field(default_factory=dict)
    scopes: tuple[Scope, ...] = ()
    """Innermost first."""


current: ContextVar[Frame] = ContextVar("django_mongo_history", default=Frame())  # noqa: B039 - it is frozen


class Block(Generic[T]):
    """
    `with` it, or decorate a function with it, plain or async; as a decorator every call has a context of its own.

    A block holds no state of the runs that go through it, so the same one may be nested in itself and be used by
    many threads and tasks at once.
    """

    __slots__ = ("_begin", "_value")

    def __init__(self, begin: Callable[[Frame], Frame], value: Callable[[Frame], T]) -> None:
        self._begin = begin
        self._value = value

    def __enter__(self) -> T:
        frame = _opened(self, self._begin)
        current.set(frame)
        return self._value(frame)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _leave(self)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        _refuse_undecoratable(function)
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return cast(Callable[P, R], awaited)

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                result = function(*args, **kwargs)
            # An async function in disguise (a callable object, a lambda): its body has not begun to run yet.
            return cast(R, self._awaited(result)) if inspect.iscoroutine(result) else result

        return called

    def yielding(self, value: Callable[[T], U]) -> Block[U]:
        """The same block, which gives `value(what it gave)` to the `with` statement."""
        return Block(self._begin, lambda frame: value(self._value(frame)))

    def carried(self) -> CarriedBlock[T]:
        """Open the block now, to be stepped into several times and ended later: a response's streaming body."""
        frame = _opened(self, self._begin)
        return CarriedBlock(frame, self._value(frame))

    async def _awaited(self, coroutine: Coroutine[Any, Any, U]) -> U:
        with self:
            return await coroutine


class CarriedBlock(Generic[T]):
    """
    An open block whose steps run at different times, in whichever thread or task: each is put into the block's
    context, blocks that a step leaves open are open again in the next, and nothing of it is seen between steps.
    """

    __slots__ = ("_frame", "_saved", "value")

    def __init__(self, frame: Frame, value: T) -> None:
        self._frame = frame
        self._saved = frame
        self.value = value

    @contextmanager
    def step(self) -> Iterator[T]:
        """One step's context. Also works after the end, with the user who was known last."""
        token = current.set(self._saved)
        try:
            yield self.value
        finally:
            self._saved = current.get()
            # A step that is torn down elsewhere (a destroyed task) never put anything into that other context.
            with suppress(ValueError):
                current.reset(token)

    def end(self, glance: Callable[[], Any] | None = None) -> None:
        """
        Let go of the user's resolver and of info that no write has taken. Ending twice is allowed.

        `glance` gives the user where that is known without work, UNSET where it is not. It is asked only if no write
        has asked for the user, on behalf of tasks that outlive the block.
        """
        if glance is not None:
            self._frame.user.glance(glance)
        _end(self._frame, self._saved.notes)


def spend(notes: Iterable[Note]) -> None:
    for note in notes:
        note.is_spent = True


def unwound(frame: Frame) -> Frame:
    """
    The frame around this one, after this one and all that are still open inside it have ended.

    Whoever has copied them, a thread or an asyncio task that goes on, sees their end as at the end of a block. Info that
    no write has taken goes on where the changeset does.
    """
    innermost, outer = current.get(), cast(Frame, frame.outer)
    for scope in set(innermost.scopes).difference(outer.scopes):
        scope.close()
    if frame.user is not outer.user:
        frame.user.close()
    goes_on = frame.changeset is outer.changeset and frame.notes is not outer.notes
    after = replace(outer, notes=frame.notes) if goes_on else outer
    for slot, waiting in innermost.notes.items():
        spend(set(waiting).difference(after.notes.get(slot, ())))
    return after


def _opened(opener: object, begin: Callable[[Frame], Frame]) -> Frame:
    outer = current.get()
    return replace(begin(outer), opener=opener, outer=outer)


def _leave(opener: object) -> None:
    """Take the innermost frame of this opener away; those that were opened inside it and are still open stay."""
    left, above = current.get(), []
    while left.opener is not opener:
        above.append(left)
        if left.outer is None:
            return  # a context that never saw this block
        left = left.outer
    outer = cast(Frame, left.outer)
    if left.scopes is not outer.scopes:
        left.scopes[0].close()
    if left.changeset is outer.changeset:
        outer = outer if left.notes is outer.notes else replace(outer, notes=left.notes)
    else:
        _end(left, left.notes)
    for frame in reversed(above):
        outer = replace(frame, outer=outer)
    current.set(outer)


def _end(frame: Frame, notes: Notes) -> None:
    outer = cast(Frame, frame.outer)
    if frame.user is not outer.user:
        frame.user.close()
    for slot, waiting in notes.items():
        spend(set(waiting).difference(outer.notes.get(slot, ())))


def _refuse_undecoratable(function: Any) -> None:
    name = getattr(function, "__qualname__", repr(function))
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{name} is a generator: it runs in its caller's context; use `with` inside of it instead"
        )
    if isinstance(function, (type, staticmethod, classmethod)) or not callable(function):
        raise TypeError(f"{name} is no function; decorate its methods, below staticmethod and classmethod")
