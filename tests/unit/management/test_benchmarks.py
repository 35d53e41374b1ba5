"""The arithmetic and the printing of the benchmarks; what they measure is for runs of their own."""

import argparse
from pathlib import Path

import pytest

from management.benchmarks import tables
from management.benchmarks.many import rounds_of
from management.benchmarks.memory import cells
from management.benchmarks.rounds import Spread, interleave, ratios, shuffled, spread
from management.benchmarks.tables import Table, put_on_page
from management.cli import ROOT
from management.commands import bench
from management.errors import ManagementError


def table(name: str = "save") -> Table:
    return Table(
        name, ["save of", "`atomic`"], [["one field", "1.50"], ["five", "12.25"]], ["Note.", "Facts."]
    )


def page_with(tmp_path: Path, text: str) -> Path:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


def test_ratios_are_of_each_round_for_itself() -> None:
    """A slow moment that hits a whole round changes no ratio; medians of the times would differ."""
    assert ratios([2.0, 30.0, 2.0, 30.0, 2.0], [1.0, 10.0, 1.0, 10.0, 2.0]) == Spread(2.0, 2.0, 3.0)


def test_a_spread_is_the_median_between_its_quartiles() -> None:
    """However the values are ordered."""
    assert spread([5.0, 1.0, 4.0, 2.0, 3.0]) == Spread(3.0, 2.0, 4.0)
    assert spread([7.0]) == Spread(7.0, 7.0, 7.0)
    assert str(Spread(1.234, 1.0, 2.0)) == "1.23 (1.00–2.00)"


def test_ways_of_different_rounds_have_no_ratio() -> None:
    """Nor has nothing at all a spread."""
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="no rounds"):
        spread([])


def test_ways_take_turns() -> None:
    """All of them in each round, in the order of its number; those of the warm-up are not counted."""
    order: list[tuple[str, int]] = []

    def way(name: str) -> float:
        def one(number: int) -> float:
            order.append((name, number))
            return float(number)

        return one

    took = interleave({name: way(name) for name in "abc"}, rounds=2, warmup=1)
    assert took == {"a": [2.0, 3.0], "b": [2.0, 3.0], "c": [2.0, 3.0]}
    assert order == [(name, number) for number in (1, 2, 3) for name in shuffled(["a", "b", "c"], number)]


def test_every_order_comes_up() -> None:
    """And the same one for the same number, so that a run can be repeated."""
    orders = {tuple(shuffled(["a", "b", "c"], number)) for number in range(100)}
    assert len(orders) == 6
    assert shuffled(["a", "b", "c"], 4) == shuffled(["a", "b", "c"], 4)


def test_larger_writes_get_fewer_rounds() -> None:
    """In proportion to the root of their size, and never fewer than three."""
    assert [rounds_of(size, 30) for size in (1_000, 10_000, 100_000)] == [30, 9, 3]
    assert rounds_of(100_000, 1) == 3


def test_memory_is_compared_round_by_round() -> None:
    """Medians of each, and the differences with their range."""
    assert cells([10.0, 20.0, 12.0], [13.0, 21.0, 14.5]) == [
        "12.0 MB",
        "14.5 MB",
        "2.5 (1.0 to 3.0) MB",
    ]


def test_a_table_as_text() -> None:
    """Columns side by side, the figures to the right, the notes below."""
    assert table().as_text().splitlines() == [
        "save of    `atomic`",
        "one field      1.50",
        "five          12.25",
        "Note.",
        "Facts.",
    ]


def test_a_table_as_markdown() -> None:
    """With the notes as a paragraph."""
    assert table().as_markdown().splitlines() == [
        "| save of | `atomic` |",
        "| --- | --- |",
        "| one field | 1.50 |",
        "| five | 12.25 |",
        "",
        "Note. Facts.",
    ]


def test_a_table_takes_its_place_on_the_page(tmp_path: Path) -> None:
    """What stood between its markers goes, and nothing else; a second time changes nothing."""
    page = page_with(
        tmp_path,
        "before\n<!-- bench save -->\nold \\1\n<!-- /bench save -->\nafter\n<!-- bench many -->\n<!-- /bench many -->\n",
    )
    put_on_page(table(), page)
    filled = page.read_text(encoding="utf-8")
    assert filled == (
        f"before\n<!-- bench save -->\n{table().as_markdown()}\n<!-- /bench save -->\nafter\n"
        "<!-- bench many -->\n<!-- /bench many -->\n"
    )
    put_on_page(table(), page)
    assert page.read_text(encoding="utf-8") == filled


@pytest.mark.parametrize("places", [0, 2])
def test_a_page_without_one_place_stays_as_it_is(tmp_path: Path, places: int) -> None:
    """And says what it lacks."""
    text = "<!-- bench save -->\n<!-- /bench save -->\n" * places
    page = page_with(tmp_path, text)
    with pytest.raises(ManagementError, match=f"{places} places"):
        put_on_page(table(), page)
    assert page.read_text(encoding="utf-8") == text


def test_the_page_has_a_filled_place_for_every_benchmark() -> None:
    """So that each can be refreshed by the command that the page names."""
    text = (ROOT / tables.PAGE).read_text(encoding="utf-8")
    for name in bench.ROUNDS:
        begin, end = f"<!-- bench {name} -->\n| ", f"<!-- /bench {name} -->"
        assert text.count(begin) == text.count(end) == 1, name


def test_each_benchmark_has_rounds_of_its_own() -> None:
    """Unless it is told otherwise."""
    assert bench.parse(["save"]).rounds == bench.ROUNDS["save"]
    assert bench.parse(["many", "--rounds", "7", "--large"]) == argparse.Namespace(
        what="many", rounds=7, large=True, rows=None, markdown=False, write=False
    )


def test_no_rounds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is started."""
    with pytest.raises(SystemExit):
        bench.parse(["save", "--rounds", "0"])
    assert "at least one round" in capsys.readouterr().err
