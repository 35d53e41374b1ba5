"""
From the rows of one document to the versions that are stored of it: the same for every format.

Note [Where a step belongs]
Live versions say what the tracker saw, and their links say whether anything went past it. Steps from before the first live
version stand in front of it, their last state being the one that it begins with. Of later ones, those that a live version
tells already are left to it; where a link between live versions is missing, steps fill the gap; and what is left, say a row
that was stored a moment after the baseline that saw its write, goes in front of it. Nothing is dropped.

Note [Walking backwards]
The state after the last step is what follows it: a live version or the live document. From there each step leads to the one
in front, by its own sides or by undoing its edits. Where a row says something else than the walk has found, somebody wrote
past the old tracker in between. The row is right about its own time, so its version says what the row says; it also says that
there is a gap, and keeps the row. Pure but for the live history that it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from bson import ObjectId
from bson.timestamp import Timestamp

from django_mongo_history.conversion import identity
from django_mongo_history.conversion.base import UNKNOWN, BadRow, Edit, Format, Side, Step
from django_mongo_history.conversion.identity import Names
from django_mongo_history.conversion.rows import Row
from django_mongo_history.conversion.scrubbing import scrubbed_edits
from django_mongo_history.conversion.unapply import Simple, invert, matches, undo
from django_mongo_history.core import policy as policies
from django_mongo_history.core import values
from django_mongo_history.core.identity import class_name
from django_mongo_history.core.model import (
    DocumentKey,
    Entry,
    Operation,
    PatchEntries,
    PathPart,
    State,
    VersionRecord,
)
from django_mongo_history.core.policy import Policy
from django_mongo_history.core.recording import (
    Circumstances,
    Sides,
    record_baseline,
    record_converted,
    record_unknown,
)
from django_mongo_history.errors import BrokenChainError
from django_mongo_history.reading import DocumentHistory

GONE: Final = "nothing says what the document was; only the change itself is known"
ANOTHER: Final = "what follows is not the state that this row leads to: something was written in between"
MISFIT: Final = "the state that follows has another value here: something was written in between"
LEFT_OUT: Final = "what this row says does not fit the state that follows, and is in no state"
LATE: Final = "this row came after the version of its step had been made, and is in no state"

_STAMPED: Final = timedelta(seconds=10)
"""By how much the moment of a row may lie in front of the write that it tells of."""
_NEAR: Final = 5
"""How many live versions around a row are looked at for the one that tells the same."""


@dataclass(slots=True)
class Entity:
    """
    One document and all that is known of it. `image`: the live document. `live`: its versions that were not converted, None
    where there are none. `stored`: the ids of its converted versions, and of the rows that each of them comes from. `entries`:
    what order needs of all its versions.
    """

    id: Any
    rows: Sequence[Row]
    image: bytes | None = None
    live: DocumentHistory | None = None
    stored: Mapping[ObjectId, Sequence[Any]] = field(default_factory=dict)
    entries: Sequence[Entry] = ()


class Gap(NamedTuple):
    """Where rows do not determine a state. `is_new`: its version is one of those that are to be stored."""

    row: Any
    reason: str
    is_new: bool


@dataclass(slots=True)
class Made:
    """
    What became of a document's rows. `records`: the versions that are to be stored, `steps` how many there are with those that
    are stored already. `told`: rows that live versions tell, `untracked`: rows of nothing that is tracked. `last`: the
    digest that the last step in front of the first live version ends with, `next`: the one that follows; both None
    where there is no such step.
    """

    records: list[VersionRecord] = field(default_factory=list)
    steps: int = 0
    rows: int = 0
    told: list[Any] = field(default_factory=list)
    untracked: list[Any] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    last: bytes | None = None
    next: bytes | None = None
    has_last: bool = False


@dataclass(slots=True)
class Rules:
    """How the documents of one class are recorded."""

    document_class: str
    policy: Policy


@dataclass(slots=True)
class _Node:
    """A state between two steps, pruned. `is_known`: whether anything is known of it but its digest."""

    image: bytes | None
    digest: bytes | None
    whole: bytes | None = None
    is_known: bool = True
    _state: State | None = None

    @property
    def state(self) -> State:
        if self._state is None:
            assert self.image is not None
            self._state = values.decode(self.image)
        return self._state


@dataclass(slots=True)
class _Resolved:
    """A step with both sides."""

    step: Step
    edits: list[Edit]
    hidden: tuple[str, ...]
    before: _Node
    after: _Node
    gaps: list[str] = field(default_factory=list)
    is_baseline: bool = False
    ends_live: bool = False
    is_exact: bool = True
    told: PatchEntries | None = None


class Engine:
    """Makes versions of one source's rows. `rules_of`: how a document of this `_cls` is recorded, None: not at all."""

    def __init__(self, source_format: Format, rules_of: Any) -> None:
        self.format = source_format
        self.names = Names(source_format.name, source_format.place)
        self._rules_of = rules_of

    def convert(self, entity: Entity) -> Made:
        """The versions of a document that are not stored yet, and what became of each row."""
        made = Made(rows=len(entity.rows))
        converted = {_name(row_id) for ids in entity.stored.values() for row_id in ids}
        rows = entity.rows
        if converted:
            rows = [row._replace(is_converted=_name(row.id) in converted) for row in rows]
        steps: list[Step] = []
        for one in self.format.steps(entity.id, rows):
            if isinstance(one, BadRow):
                made.bad.append(one)
            else:
                steps.append(one)
        rules = self._rules_of(_class_name(entity, steps)) if steps else None
        if rules is None:
            made.untracked.extend(row.id for step in steps for row in step.rows)
            return made
        _Conversion(self, entity, steps, rules, made, converted).run()
        return made


class _Conversion:
    """One document's."""

    def __init__(  # noqa: PLR0917 - private, and called once
        self,
        engine: Engine,
        entity: Entity,
        steps: list[Step],
        rules: Rules,
        made: Made,
        converted: set[Any],
    ) -> None:
        self.engine = engine
        self.names = engine.names
        self.entity = entity
        self.steps = steps
        self.rules = rules
        self.policy = rules.policy
        self.made = made
        self.converted = converted
        self.key = DocumentKey(engine.format.target.source.namespace, entity.id)

    def run(self) -> None:
        live = self.entity.live
        slots = _Slots(self, live).filled(self.steps) if live is not None else {0: self.steps}
        order: Timestamp | None = None
        for number in sorted(slots):
            resolved = self._walk(slots[number], self._anchor(number), number)
            order = self._emit(resolved, order, number)
            if number == 0 and resolved:
                self._note_end(resolved[-1])

    def _note_end(self, last: _Resolved) -> None:
        anchor = self._anchor(0)
        self.made.has_last = True
        self.made.last = last.after.digest
        self.made.next = anchor.digest

    # -- what follows a slot ---------------------------------------------------------------------------------------

    def _anchor(self, number: int) -> _Node:
        """The state behind the steps of a slot."""
        live = self.entity.live
        if live is None:
            return self._live_node()
        stored = _stored_indexes(live)
        if number >= len(stored):
            return self._live_node()
        index = stored[number]
        entry = live.steps[index].entry
        assert entry is not None
        if entry.before is None:
            return _Node(None, None)
        try:
            state = live.before(index)
        except BrokenChainError:
            return _Node(None, entry.before, is_known=False)
        return _Node(state, entry.before if state is None else values.digest(state))

    def _live_node(self) -> _Node:
        return self.node(self.entity.image)

    def node(self, whole: bytes | None) -> _Node:
        """A whole image as a node."""
        if whole is None:
            return _Node(None, None)
        pruned = policies.prune(whole, self.policy)
        return _Node(pruned, values.digest(pruned), whole)

    def given(self, side: Side) -> _Node:
        assert side is not UNKNOWN
        if side is None or isinstance(side, bytes):
            return self.node(side)
        assert isinstance(side, Mapping)
        return self.node(values.encode(side))

    # -- backwards -------------------------------------------------------------------------------------------------

    def _walk(self, steps: Sequence[Step], anchor: _Node, slot: int) -> list[_Resolved]:
        """Both sides of each step, see Note [Walking backwards]. The last one comes first here."""
        found: list[_Resolved] = []
        current = anchor
        for number in range(len(steps) - 1, -1, -1):
            step = steps[number]
            edits, hidden = scrubbed_edits(step.edits, self.policy)
            one = _Resolved(step, edits, hidden, current, current, [step.gap] if step.gap else [])
            if step.after is not UNKNOWN:
                self._take_after(one, current)
            else:
                one.ends_live = not found and step.before is not UNKNOWN
            if step.before is not UNKNOWN:
                one.before = self.given(step.before)
            elif step.edits:
                self._undo(one, found[-1] if found else None, is_first=slot == 0 and number == 0)
            else:
                self._take_before(one, steps[number - 1] if number else None, slot)
            found.append(one)
            current = one.before
        found.reverse()
        return found

    def _take_after(self, one: _Resolved, following: _Node) -> None:
        told = self.given(one.step.after)
        if told.digest == following.digest:
            one.after = replace(following, whole=told.whole)
        elif following.is_known and _is_same_unordered(told, following):
            one.after = replace(following, whole=told.whole)  # another order of keys and nothing else
        else:
            one.after = told
            one.gaps.append(ANOTHER)

    def _take_before(self, one: _Resolved, previous: Step | None, slot: int) -> None:
        """The state before a step that says nothing of it is the one after the step, or the live version, in front."""
        if previous is not None and previous.after is not UNKNOWN:
            one.before = self.given(previous.after)
        elif previous is None and slot == 0 and one.after.image is not None:
            one.before, one.is_baseline = one.after, True
        elif previous is None and slot:
            one.before = self._front(slot) or self._unknown(one)
        else:
            one.before = self._unknown(one)

    def _front(self, slot: int) -> _Node | None:
        """The state after the live version in front of a slot; None where it cannot be known."""
        live = self.entity.live
        assert live is not None
        index = _stored_indexes(live)[slot - 1]
        try:
            state = live.after(index)
        except BrokenChainError:
            return None
        return _Node(state, None if state is None else values.digest(state))

    def _unknown(self, one: _Resolved) -> _Node:
        return _Node(None, self.names.unknown(one.step.rows[0].id), is_known=False)

    def _undo(self, one: _Resolved, later: _Resolved | None, *, is_first: bool) -> None:
        if not one.after.is_known or one.after.image is None:
            if one.after.is_known:  # gone: no state leads here
                one.after = _Node(None, self.names.unknown(["after", one.step.rows[0].id]), is_known=False)
            one.before = self._unknown(one)
            one.gaps.append(GONE)
            one.is_exact = False
            return
        state = one.after.state
        undone = undo(state, one.edits)
        if undone.misfits and later is not None and self._is_rebased(one, later, undone.misfits):
            return
        one.is_exact = undone.is_exact
        if undone.misfits:
            one.gaps.append(MISFIT)
        if undone.left_out:
            one.gaps.append(LEFT_OUT)
        if undone.after is not state:
            one.after = self._made(undone.after)
        if is_first and _is_create(undone.before, one.edits):
            one.before = _Node(None, None)
            return
        one.before = self._made(undone.before) if undone.before is not undone.after else one.after
        if undone.simple and undone.is_exact:
            one.told = _entries_of(undone.simple)

    def _made(self, state: State) -> _Node:
        image = values.encode(state)
        return _Node(image, values.digest(image), _state=state)

    def _is_rebased(self, one: _Resolved, later: _Resolved, misfits: Sequence[Edit]) -> bool:
        """
        Whether both steps were told against one and the same earlier state, as blocks do that save twice: 1 to 2, 1 to 3.

        Then the later one really leads from where this one ends.
        """
        if not later.is_exact or later.before.image is None:
            return False
        if not all(any(_is_counterpart(edit, other) for other in later.edits) for edit in misfits):
            return False
        base = later.before
        redone = undo(base.state, invert(one.edits))
        if not redone.is_exact:
            return False
        one.after = later.before = self._made(redone.before)
        later.told = None
        one.before = base
        return True

    # -- versions --------------------------------------------------------------------------------------------------

    def _emit(self, resolved: Sequence[_Resolved], last: Timestamp | None, slot: int) -> Timestamp | None:
        """In their order, with times that do not go back, and do not go beyond what follows."""
        front, following = self._around_slot(slot)
        at = None if front is None else front.at
        for number, one in enumerate(resolved):
            moment = one.step.at if at is None or one.step.at >= at else at
            if following is not None:
                moment = min(moment, following.at)
            at = moment
            if front is not None:
                order = identity.behind(front.order, moment, last)
            else:
                order = identity.clock_order(moment, last, shift_s=1)
                limit = None if following is None else following.order
                if limit is not None and (order.time, order.inc) >= (limit.time, limit.inc):
                    order = identity.before(limit, number)
            last = order
            self._emit_one(one, moment, order)
        return last

    def _around_slot(self, slot: int) -> tuple[Entry | None, Entry | None]:
        """The live versions in front of a slot and behind it."""
        live = self.entity.live
        if live is None:
            return None, None
        entries = [step.entry for step in live.steps if step.entry is not None]
        return entries[slot - 1] if slot else None, entries[slot] if slot < len(entries) else None

    def _hidden(self, one: _Resolved) -> tuple[str, ...]:
        """The hidden paths that changed. An archive may leave all of them out, where the live document has them."""
        before, after = one.before.whole, one.after.whole
        hidden = policies.hidden_changes(before, after, self.policy)
        if hidden and one.ends_live:
            there = policies.hidden_changes(one.before.image, before, self.policy)
            hidden = tuple(path for path in hidden if path in there)
        return hidden

    def _emit_one(self, one: _Resolved, at: datetime, order: Timestamp) -> None:
        step, made = one.step, self.made
        hidden, is_silent = one.hidden, bool(step.edits) and not one.edits
        if one.before.whole is not None and one.after.whole is not None:
            hidden = self._hidden(one)
            is_silent = one.before.digest == one.after.digest and one.before.whole != one.after.whole
        told = {".".join(path) for path in self.policy.hidden}.intersection(step.hidden)
        hidden = tuple(sorted(told.union(hidden))) if told else hidden
        is_silent = is_silent and not hidden and not one.is_baseline
        if is_silent:
            made.untracked.extend(row.id for row in step.rows)
            return
        made.steps += 1
        version_id = self.names.version(step.rows[0].id, step.at)
        late = (
            [row for row in step.rows if _name(row.id) not in self.converted] if self.converted else step.rows
        )
        is_stored = len(late) < len(step.rows) or version_id in self.entity.stored
        made.gaps.extend(Gap(step.rows[0].id, reason, not is_stored) for reason in one.gaps)
        if is_stored:
            if late:
                self._emit_late(one, late, at, order)
            return
        around = self._around(one, step.rows, version_id, at, order)
        made.records.append(self._record(one, hidden, around, version_id))

    def _emit_late(self, one: _Resolved, late: Sequence[Row], at: datetime, order: Timestamp) -> None:
        """Rows that belong to a version that is stored already: they are kept, the version stays as it is."""
        version_id = self.names.version(late[0].id, one.step.at)
        self.made.gaps.append(Gap(late[0].id, LATE, is_new=True))
        around = self._around(replace(one, gaps=[LATE]), late, version_id, at, order)
        sides = Sides(one.after.image, one.after.image, (), one.after.digest, one.after.digest)
        self.made.records.append(record_converted(self.key, sides, around, version_id))

    def _record(
        self, one: _Resolved, hidden: tuple[str, ...], around: Circumstances, version_id: ObjectId
    ) -> VersionRecord:
        if one.is_baseline and one.after.image is not None:
            return record_baseline(self.key, one.after.image, around, new_id=lambda: version_id)
        if not one.before.is_known or not one.after.is_known:
            sides = Sides(None, None, hidden, one.before.digest, one.after.digest, _told(one.edits))
            return record_unknown(self.key, sides, around, version_id)
        if one.before.image is None and one.after.image is None:
            return self._gone(one, around, version_id)
        sides = Sides(
            one.before.image,
            one.after.image,
            hidden,
            one.before.digest,
            one.after.digest,
            one.told,
            bool(one.gaps),
        )
        return record_converted(self.key, sides, around, version_id)

    def _gone(self, one: _Resolved, around: Circumstances, version_id: ObjectId) -> VersionRecord:
        """A step from nothing to nothing, as a delete of what was never seen: a state that nobody knows was before it."""
        unknown = self._unknown(one)
        return record_unknown(self.key, Sides(None, None, (), unknown.digest), around, version_id)

    def _around(
        self, one: _Resolved, rows: Sequence[Row], version_id: ObjectId, at: datetime, order: Timestamp
    ) -> Circumstances:
        step, source = one.step, self.engine.format
        told: dict[str, Any] = {
            "format": source.name,
            "place": source.place,
            "rows": [row.id for row in rows],
        }
        if at != step.at:
            told["at"] = step.at
        if one.gaps:
            told["gap"] = "; ".join(dict.fromkeys(one.gaps))
            told["raw"] = [source.kept(row, self.policy) for row in rows]
        shared = step.changeset
        return Circumstances(
            document_class=self.rules.document_class,
            policy=self.policy,
            at=at,
            order=order,
            changeset=version_id if shared is None else self.names.changeset(shared),
            context=step.context,
            source=told,
        )


class _Slots:
    """Which steps stand where among the live versions, see Note [Where a step belongs]."""

    def __init__(self, conversion: _Conversion, live: DocumentHistory) -> None:
        self.conversion = conversion
        self.live = live
        self.indexes = _stored_indexes(live)
        self.entries = [live.steps[index].entry for index in self.indexes]
        self._telling: set[int] = set()

    def filled(self, steps: Sequence[Step]) -> dict[int, list[Step]]:
        """Steps by the number of live versions in front of them, in their order."""
        slots: dict[int, list[Step]] = {}
        moments = [entry.at for entry in self.entries if entry is not None]
        for step in steps:
            slots.setdefault(sum(1 for at in moments if at <= step.at), []).append(step)
        for number in range(len(self.indexes), -1, -1):
            here = slots.pop(number, [])
            left = [step for step in reversed(here) if not self._is_told(step, number)][::-1]
            if left and (number == 0 or self._has_gap(number)):
                slots[number] = left
            elif left:
                slots[number - 1] = slots.get(number - 1, []) + left
        return slots

    def _has_gap(self, number: int) -> bool:
        """Whether a link is missing behind so many live versions."""
        entry = self.entries[number - 1]
        assert entry is not None
        if number < len(self.entries):
            following = self.entries[number]
            assert following is not None
            return entry.after != following.before
        index = self.indexes[-1]
        return len(self.live.steps) > index + 1  # readers have derived what happened since

    def _is_told(self, step: Step, number: int) -> bool:
        """
        Whether a live version near by says the same; then the step is its, and it is not told twice.

        A row may have been stamped a moment before the write that the first live version saw. A live version tells one
        step that says a whole state; of steps that say single changes it may tell several.
        """
        if number == 0 and not self._is_close(step, self.indexes[0]):
            return False
        edits, _hidden = scrubbed_edits(step.edits, self.conversion.policy)
        low, high = max(number - _NEAR, 0), min(number + 1, len(self.indexes))
        has_gap = number > 0 and self._has_gap(number)
        for index in reversed(self.indexes[low:high]):
            if self.live.steps[index].operation is Operation.BASELINE:
                continue
            if index in self._telling and not edits:
                continue
            if has_gap and not self._is_close(step, index):
                continue  # a write that went past the tracker may have done once more what was done long ago
            try:
                before, after = self.live.before(index), self.live.after(index)
            except BrokenChainError:
                continue
            if self._tells(step, edits, before, after):
                self._telling.add(index)
                self.conversion.made.told.extend(row.id for row in step.rows)
                return True
        return False

    def _is_close(self, step: Step, index: int) -> bool:
        entry = self.live.steps[index].entry
        return entry is not None and abs(entry.at - step.at) <= _STAMPED

    def _tells(self, step: Step, edits: Sequence[Edit], before: bytes | None, after: bytes | None) -> bool:
        if step.after is not UNKNOWN:
            told = self.conversion.given(step.after)
            if told.image is None or after is None:
                return told.image is None and after is None
            return _is_same_unordered(told, _Node(after, None))
        if step.before is not UNKNOWN and not edits:
            told = self.conversion.given(step.before)
            if told.image is None or before is None:
                return told.image is None and before is None
            return _is_same_unordered(told, _Node(before, None))
        if after is None or not edits:
            return False
        new = values.decode(after)
        old = {} if before is None else values.decode(before)
        return all(undo(new, [edit]).is_exact and not undo(old, [edit]).is_exact for edit in edits)


def _stored_indexes(live: DocumentHistory) -> list[int]:
    return [index for index, step in enumerate(live.steps) if step.entry is not None]


def _name(row_id: Any) -> Any:
    """A row's id, hashable whatever its type."""
    return row_id.binary if type(row_id) is ObjectId else values.encode_value(row_id)


def _class_name(entity: Entity, steps: Sequence[Step]) -> str | None:
    """The `_cls` of a document: of the live one, else by the last step that tells one."""
    if entity.image is not None:
        return class_name(entity.image)
    for step in reversed(steps):
        for side in (step.after, step.before):
            if isinstance(side, bytes):
                return class_name(side)
            if isinstance(side, Mapping):
                name = side.get("_cls")
                return name if isinstance(name, str) else None
    return None


def _is_same_unordered(one: _Node, other: _Node) -> bool:
    if one.image is None or other.image is None:
        return one.image is other.image
    return _same(one.state, other.state)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return values.same(one, other)


def _is_create(before: State, edits: Sequence[Edit]) -> bool:
    """Whether nothing was there before: rows of the first save of a document that was tracked unsaved."""
    is_whole = any(edit.action == "add" and edit.path in ("", ()) for edit in edits)
    return is_whole and before.keys() <= {"_id", "_cls"}


def _is_counterpart(edit: Edit, other: Edit) -> bool:
    """Whether both were told against the same earlier value."""
    if (edit.action, edit.path) != (other.action, other.path):
        return False
    if edit.action in ("change", "set"):
        return matches(edit.payload[0], other.payload[0])
    return {key for key, _value in edit.payload} <= {key for key, _value in other.payload}


def _entries_of(simple: Sequence[Simple]) -> PatchEntries | None:
    """Entries of a patch, in the order of the edits; None where one of them should be looked into."""
    entries: PatchEntries = []
    for action, place, payload in reversed(simple):
        if action == "change" and not _is_plain(*payload):
            return None
        entries.append((action, list(place), payload))
    return entries


def _is_plain(old: Any, new: Any) -> bool:
    """Whether one value replaces another as a whole: patches go into documents and lists."""
    if isinstance(old, (dict, list)) or isinstance(new, (dict, list)):
        return False
    return type(old) is not type(new) or old != new or not values.same(old, new)


def _told(edits: Sequence[Edit]) -> PatchEntries:
    """Edits as entries of a patch that nothing is computed with: digits in paths are taken for indexes."""
    told: PatchEntries = []
    for action, path, payload in edits:
        parts: list[PathPart] = (
            [int(part) if part.isascii() and part.isdigit() else part for part in path.split(".")]
            if isinstance(path, str) and path
            else list(path)
        )
        told.append(("change" if action == "set" else action, parts, payload))
    return told
