"""
The story: releases loaded by different people, one airport's life, the class as it stood, the way back and forth.

Every claim that the text makes is checked against bytes or files that the history knows nothing of.
"""

import io
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.utils import timezone

from django_mongo_history import changeset, changesets, history_of
from testproject.airports.documents import Airport, Country, class_for
from testproject.airports.loader import Counts, Release, Row, read, releases
from testproject.airports.presentation import change_row
from testproject.demonstration.offload import Way
from testproject.demonstration.output import Output, clipped
from testproject.demonstration.proof import Picture, take_picture

ADMIN = "admin"
ADMIN_PASSWORD = "admin"
PEOPLE = (
    ("anna", "Anna Berg"),
    ("bilal", "Bilal Demir"),
    ("chloe", "Chloé Martin"),
    ("daichi", "Daichi Mori"),
    ("elin", "Elín Jónsdóttir"),
)
SUMMARY = ("_cls", "name", "iata", "city", "subd", "country", "location.elevation")


@dataclass(frozen=True, slots=True)
class Stage:
    """One release, loaded: by whom, what it did, a moment when it was in force, and the bytes at that moment."""

    release: Release
    user: Any
    counts: Counts
    seconds: float
    changes: Any
    moment: datetime
    picture: Picture


def tell(out: Output, way: Way, *, directory: Path | None, every_release: bool) -> bool:
    """Tell it all; whether every proof held."""
    found = releases(directory)
    admin, people = create_users()
    stages = load_all(out, way, found, people)
    held = way.show(out, stages)
    show_changeset(out, stages[min(1, len(stages) - 1)])
    for icao in interesting_airports(found):
        show_airport(out, icao)
    held = show_moment(out, stages[0], now=stages[-1]) and held
    held = show_copy(out, stages[0]) and held
    held = show_relations(out, way, interesting_airports(found)[-1], user=admin) and held
    targets = stages[-2::-1] if every_release else stages[len(stages) // 2 : -1][:1]
    for number, stage in enumerate(targets):
        held = revert_to(out, way, stage, user=admin, title="The way back" if number == 0 else "") and held
    return revert_to(out, way, stages[-1], user=admin, title="And forth: the revert, reverted") and held


def create_users() -> tuple[Any, list[Any]]:
    """A superuser, and the release managers; those who are there already are taken as they are."""
    users = get_user_model().objects
    admin = users.filter(username=ADMIN).first() or users.create_superuser(ADMIN, password=ADMIN_PASSWORD)
    people = []
    for username, name in PEOPLE:
        first, last = name.split(" ")
        person = users.filter(username=username).first()
        people.append(person or users.create_user(username, first_name=first, last_name=last))
    return admin, people


def load_all(out: Output, way: Way, found: Sequence[Release], people: Sequence[Any]) -> list[Stage]:
    """Load the releases one after another, each as one person's changeset."""
    out.title(f"{len(found)} releases, each one changeset")
    stages = [
        load_one(out, way, release, person) for release, person in zip(found, cycle(people), strict=False)
    ]
    header = ("release", "by", "created", "updated", "unchanged", "deleted", "documents", "seconds")
    out.table(header, [_load_row(stage) for stage in stages])
    return stages


def load_one(out: Output, way: Way, release: Release, user: Any) -> Stage:
    """Load one release in somebody's name, and remember what the database then holds."""
    started = time.perf_counter()
    with changeset(user=user, reason=f"Release of {release.name}", file=release.path.name) as changes:
        counts = way.load(release, out.progress(f"Release of {release.name}"))
    way.settle()
    seconds = time.perf_counter() - started
    moment = quiet_moment()
    return Stage(release, user, counts, seconds, changes, moment, take_picture())


def quiet_moment() -> datetime:
    """A moment after every write so far and before every later one, in the milliseconds that histories have."""
    time.sleep(0.002)
    now = timezone.now()
    time.sleep(0.002)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def show_changeset(out: Output, stage: Stage) -> None:
    """What one changeset did, from its versions."""
    out.title(f"One changeset: the release of {stage.release.name}")
    operations: Counter[str] = Counter()
    paths: Counter[str] = Counter()
    of_type_only = 0
    for version in stage.changes.versions():
        operations[str(version.operation)] += 1
        rows = [change_row(change) for change in version.changes]
        paths.update(row.path for row in rows)
        of_type_only += bool(rows) and all(row.note for row in rows)
    told = ", ".join(f"{count:,} × {operation}" for operation, count in operations.most_common())
    out.line(f"Versions: {told}.")
    if of_type_only:
        out.line(
            f"{of_type_only:,} of them changed nothing but a number's type, such as 450.0 to 450: seen, and kept."
        )
    out.line(f"Changed most: {', '.join(f'{path} ({count:,})' for path, count in paths.most_common(5))}.")


def interesting_airports(found: Sequence[Release]) -> list[str]:
    """Of the last release: the airport that changed most on the way, and the one that did so without ever missing."""
    lives: dict[str, list[Row | None]] = {}
    histories = [read(release) for release in found]
    for icao in histories[-1]:
        lives[icao] = [rows.get(icao) for rows in histories]
    steady = [icao for icao in lives if None not in lives[icao]]
    best = [
        max(codes, key=lambda icao: (eventfulness(lives[icao]), icao)) for codes in (lives, steady) if codes
    ]
    return list(dict.fromkeys(best))


def eventfulness(life: Sequence[Row | None]) -> int:
    """How much happened to an airport: texts that changed; coming, going and changing its kind count double."""
    steps = sum(2 for before, after in pairwise(life) if (before is None) != (after is None))
    for before, after in pairwise(row for row in life if row is not None):
        steps += sum(before[key] != after[key] for key in ("iata", "name", "city", "subd", "country", "tz"))
        steps += 2 * (class_for(before["name"]) is not class_for(after["name"]))
    return steps


def show_airport(out: Output, icao: str) -> None:
    """One airport's life; of a create or a delete only what it was about."""
    history = history_of(Airport, icao)
    out.title(f"The life of one airport: {icao}, {len(history)} versions")
    for version in history:
        who = f"{version.at:%H:%M:%S.%f}"[:-3] + f" by {version.user}: {version.reason}"
        out.line(f"{version.number}. {version.operation} at {who}")
        rows = list(map(change_row, version.changes))
        if str(version.operation) in ("create", "delete"):
            values = {row.path: row.new if str(version.operation) == "create" else row.old for row in rows}
            out.line("     " + ", ".join(values[path] for path in SUMMARY if path in values))
            continue
        for row in rows:
            note = f" ({row.note})" if row.note else ""
            out.line(clipped(f"     {row.path}: {row.old} → {row.new}{note}"))


def show_moment(out: Output, then: Stage, *, now: Stage) -> bool:
    """The class as it stood after a release."""
    out.title(f"All airports as of {_iso(then.moment)}")
    started = time.perf_counter()
    standing = {airport.icao: airport for airport in history_of(Airport).as_of(then.moment)}
    seconds = time.perf_counter() - started
    is_right = standing.keys() == then.picture.ids("airports")
    today = now.picture.ids("airports")
    gone, new = sorted(standing.keys() - today), today - standing.keys()
    out.line(f"{len(standing):,} airports then, read in {seconds:.1f} s; {len(today):,} today.")
    out.line(f"{len(gone):,} of them are gone since, {len(new):,} came. Some that are gone:")
    for icao in gone[:4]:
        out.line(f"    {standing[icao]}, {standing[icao].city or 'no city'}")
    _verdict(
        out, "These are the airports that were there then.", [] if is_right else ["another set of airports"]
    )
    return is_right


def show_copy(out: Output, then: Stage) -> bool:
    """The same as a collection of its own, for everything that MongoDB can do with one."""
    out.title("The same, as a collection beside the live one")
    standing = history_of(Airport).as_of(then.moment).into("airports_then")
    try:
        most = standing.objects.aggregate(
            {"$group": {"_id": "$country", "airports": {"$sum": 1}}},
            {"$sort": {"airports": -1, "_id": 1}},
            {"$limit": 3},
        )
        told = ", ".join(f"{one['_id']} {one['airports']:,}" for one in most)
        out.line(
            f"{standing.count:,} documents in {standing.collection_name}. Countries with most airports then: {told}."
        )
        raw = {("airports", one["_id"]): one for one in standing.collection.find()}
    finally:
        standing.drop()
    is_right = raw.keys() == {key for key in then.picture.documents if key[0] == "airports"}
    return _verdict(out, "These are the airports that were there then.", [] if is_right else ["another set"])


def show_relations(out: Output, way: Way, icao: str, *, user: Any) -> bool:
    """A reference as it was, from both ends, and a mistake that is taken back."""
    out.title("Relations as they were")
    before = take_picture()
    airport = Airport.objects.get(pk=icao)
    country = airport.country
    with changeset(user=user, reason="A typo in a country's name") as mistake:
        Country.objects(pk=country.pk).update(set__name=country.name.upper())
    way.settle()
    then = history_of(airport)[-1].follow("country")
    now = Country.objects.get(pk=country.pk).name
    out.line(f"{icao} lies in {now} today; when {icao} was last written that was called {then['name']}.")
    out.line(f"{sum(1 for _ in history_of(country).referring(Airport, 'country')):,} airports refer to it.")
    told = ", ".join(
        f"{one.reason!r} by {one.user}" for one in changesets(touching=country, newest_first=True)[:2]
    )
    out.line(f"Who touched it last: {told}.")
    mistake.take_back()
    way.settle()
    is_told = (now, then["name"]) == (country.name.upper(), country.name)
    return _verdict(
        out,
        "The mistake is taken back, all documents are what they were.",
        take_picture().differences(before) or ([] if is_told else ["another name"]),
    )


def revert_to(out: Output, way: Way, stage: Stage, *, user: Any, title: str) -> bool:
    """Revert all documents to a stage's moment with the management command, and compare the bytes."""
    if title:
        out.title(title)
    out.command(f"manage.py history_revert --since {_iso(stage.moment)} --no-input")
    started = time.perf_counter()
    said = io.StringIO()
    try:
        with changeset(user=user, reason=f"Back to the release of {stage.release.name}"):
            call_command("history_revert", "--since", _iso(stage.moment), "--no-input", stdout=said)
    except (CommandError, SystemExit) as error:
        out.indented(said.getvalue())
        out.bad(f"history_revert gave up: {error}")
        return False
    out.indented(said.getvalue())
    way.settle()
    picture = take_picture()
    claim = (
        f"{len(picture.documents):,} documents, {picture.size:,} bytes: byte for byte the release of "
        f"{stage.release.name} ({time.perf_counter() - started:.1f} s)"
    )
    return _verdict(out, claim, picture.differences(stage.picture))


def _verdict(out: Output, claim: str, differences: Sequence[str]) -> bool:
    """Say that the claim holds, or what speaks against it."""
    if not differences:
        out.good(claim)
        return True
    out.bad(f"Not so: {claim}")
    out.indented("\n".join(differences[:10]))
    return False


def _load_row(stage: Stage) -> tuple[object, ...]:
    counts = stage.counts
    numbers = (counts.created, counts.updated, counts.unchanged, counts.deleted, len(stage.picture.documents))
    return (stage.release.name, stage.user.get_full_name(), *numbers, f"{stage.seconds:.1f}")


def _iso(moment: datetime) -> str:
    """The moment as commands take it."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
