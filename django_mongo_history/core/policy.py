"""
What is tracked of a class: untracked and hidden paths, and how often a whole state is stored.

`prune` is the one function through which every image goes before it is compared, digested or stored; capture,
baseline, conversion and reading share it. Works on BSON bytes; knows no MongoEngine.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from zlib import crc32

from bson import ObjectId

from django_mongo_history.core import elements
from django_mongo_history.core.elements import ARRAY, DOCUMENT, Element
from django_mongo_history.core.model import Path

NamePath = tuple[str, ...]
"""A path of database names; lists have no part of their own, `*` stands for any key."""

Rules = dict[bytes, Any]
"""Paths as nested dicts of names; an empty dict ends a path."""

ANY: Final = "*"
_ANY: Final = b"*"
DEFAULT_SNAPSHOT_EVERY: Final = 20


@dataclass(frozen=True, slots=True)
class Policy:
    """
    What is tracked of a class.

    `untracked`: neither the value nor the fact of a change is kept. `hidden`: the fact, never the value.
    `snapshot_every`: about every how many versions the whole state is stored with the patch; 1 stores it always.
    """

    untracked: tuple[NamePath, ...] = ()
    hidden: tuple[NamePath, ...] = ()
    snapshot_every: int = DEFAULT_SNAPSHOT_EVERY

    @property
    def fingerprint(self) -> str:
        """
        The pruning rules as text, empty where nothing is pruned. Stored with every version.

        It says the rules themselves, so that a reader can compare states across a change of policy.
        """
        return _fingerprint(self.untracked, self.hidden) if self.untracked or self.hidden else ""

    @classmethod
    def from_fingerprint(cls, fingerprint: str) -> Policy:
        """The policy that a stored fingerprint says (its snapshot interval is not part of it)."""
        if not fingerprint:
            return cls()
        untracked, hidden = json.loads(fingerprint)
        return cls(untracked=tuple(map(tuple, untracked)), hidden=tuple(map(tuple, hidden)))

    def joined(self, other: Policy) -> Policy:
        """Prunes what either of the two prunes."""
        return Policy(
            untracked=_union(self.untracked, other.untracked),
            hidden=_union(self.hidden, other.hidden),
            snapshot_every=self.snapshot_every,
        )

    def wants_snapshot(self, version_id: ObjectId) -> bool:
        """
        Whether this version also stores its whole state: decided by its id, so that nobody has to count.

        By a checksum of it, because ids ascend by one: jobs that write the same documents again and again would give
        each of them every Nth id, and some of them never a snapshot.
        """
        return crc32(version_id.binary) % self.snapshot_every == 0


def prune(image: bytes, policy: Policy) -> bytes:
    """The image without what the policy hides or leaves untracked. Cost: nothing where it does neither."""
    paths = policy.untracked + policy.hidden
    return _prune_document(image, _trie(paths)) if paths else image


def prune_value(path: Path, kind: int, value: bytes, policy: Policy) -> tuple[int, bytes] | None:
    """A value that lies at `path`, pruned; None where the path itself is hidden or untracked."""
    node: Rules | None = _trie(policy.untracked + policy.hidden)
    for part in path:
        if isinstance(part, str):
            node = rules_below(node or {}, _encoded(part))
            if node is None:
                return None
    return kind, prune_inside(kind, value, node or {})


def rules_of(policy: Policy) -> Rules:
    """All that the policy prunes, as nested names."""
    return _trie(policy.untracked + policy.hidden)


def rules_below(rules: Rules, name: bytes) -> Rules | None:
    """The rules below a name: empty where there are none, None where the name itself is pruned."""
    if name not in rules and _ANY not in rules:
        return {}
    found = [rules[key] for key in (name, _ANY) if key in rules]
    if any(not below for below in found):
        return None
    return found[0] if len(found) == 1 else _merge(*found)


def is_hidden(path: Path, policy: Policy) -> bool:
    """Whether the path, or something above it, is hidden."""
    return _is_covered(path, policy.hidden)


def is_untracked(path: Path, policy: Policy) -> bool:
    """Whether the path, or something above it, is untracked."""
    return _is_covered(path, policy.untracked)


def hidden_changes(before: bytes | None, after: bytes | None, policy: Policy) -> tuple[str, ...]:
    """
    The hidden paths, dotted, whose values differ between two whole images.

    A list whose elements were only put in another order, hidden values with them, counts as no change; where the
    tracked part of the elements changed as well that cannot be told, and it counts as one.
    """
    changed = []
    for path in policy.hidden:
        old, new = _found(before, path), _found(after, path)
        if old != new and _paired(before, path) != _paired(after, path):
            changed.append(".".join(path))
    return tuple(changed)


def name_path(path: Path) -> str:
    """A path as dotted names without the indexes of lists."""
    return ".".join(part for part in path if isinstance(part, str))


def _union(one: tuple[NamePath, ...], other: tuple[NamePath, ...]) -> tuple[NamePath, ...]:
    return tuple(sorted({*one, *other}))


def _is_covered(path: Path, rules: Iterable[NamePath]) -> bool:
    names = [part for part in path if isinstance(part, str)]
    return any(
        len(rule) <= len(names) and all(want in (ANY, name) for want, name in zip(rule, names, strict=False))
        for rule in rules
    )


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


@lru_cache(maxsize=1024)
def _fingerprint(untracked: tuple[NamePath, ...], hidden: tuple[NamePath, ...]) -> str:
    return json.dumps([sorted(untracked), sorted(hidden)], ensure_ascii=False, separators=(",", ":"))


@lru_cache(maxsize=1024)
def _trie(paths: tuple[NamePath, ...]) -> Rules:
    """Paths as nested dicts; an empty dict ends a path. A path below another one adds nothing."""
    root: Rules = {}
    for path in paths:
        if not any(path[:length] in paths for length in range(1, len(path))):
            node = root
            for part in path:
                node = node.setdefault(_encoded(part), {})
    return root


def _merge(one: Rules, other: Rules) -> Rules:
    merged = dict(one)
    for key, below in other.items():
        mine = merged.get(key)
        merged[key] = below if mine is None else (_merge(mine, below) if mine and below else {})
    return merged


def _prune_document(document: bytes, rules: Rules) -> bytes:
    pieces = []
    copied = 4
    covers_all = _ANY in rules
    for start, name_end, stop in elements.spans(document):
        name = document[start + 1 : name_end]
        if not covers_all and name not in rules:
            continue
        below = rules_below(rules, name)
        if below is None:
            pieces.append(document[copied:start])
        elif below:
            value = document[name_end + 1 : stop]
            pieces.append(document[copied : name_end + 1])
            pieces.append(prune_inside(document[start], value, below))
        else:
            continue
        copied = stop
    return elements.enclose([*pieces, document[copied:-1]]) if pieces else document


def prune_inside(kind: int, value: bytes, rules: Rules) -> bytes:
    """A value without what the rules prune inside of it."""
    if not rules:
        return value
    if kind == DOCUMENT:
        return _prune_document(value, rules)
    if kind == ARRAY:  # lists have no part in a path: the rules go on inside each element
        return elements.assemble(
            Element(part.name, part.kind, prune_inside(*part[1:], rules)) for part in elements.elements(value)
        )
    return value


def _found(image: bytes | None, path: NamePath) -> list[tuple[int, bytes]]:
    """The values at a path, in the order in which they lie."""
    return [] if image is None else [(part.kind, part.value) for part in _walk(DOCUMENT, image, path)]


def _walk(kind: int, value: bytes, path: NamePath) -> Iterator[Element]:
    if kind == ARRAY:
        for part in elements.elements(value):
            yield from _walk(part.kind, part.value, path)
    elif kind == DOCUMENT:
        wanted = _encoded(path[0])
        for part in elements.elements(value):
            if wanted in (_ANY, part.name):
                if len(path) == 1:
                    yield part
                else:
                    yield from _walk(part.kind, part.value, path[1:])


def _paired(image: bytes | None, path: NamePath) -> Counter[tuple[bytes, bytes]]:
    """Each document that holds a value at the path's end, pruned and whole, whatever their order."""
    if image is None:
        return Counter()
    rules = _trie((path[-1:],))
    return Counter((_prune_document(holder, rules), holder) for holder in _holders(image, path[:-1]))


def _holders(image: bytes, path: NamePath) -> Iterator[bytes]:
    if not path:
        yield image
        return
    for part in _walk(DOCUMENT, image, path):
        yield from _documents(part.kind, part.value)


def _documents(kind: int, value: bytes) -> Iterator[bytes]:
    if kind == DOCUMENT:
        yield value
    elif kind == ARRAY:
        for part in elements.elements(value):
            yield from _documents(part.kind, part.value)
