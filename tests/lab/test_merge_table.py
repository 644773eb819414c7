"""What the measuring of merges promises: resuming, fair prompts, honest tables and intervals.

Covered: everything around the merges, with invented cells, and scoring with the demo's adapters.
Not covered: the merges (tests/merge) and what came out (tests/lab/results).
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from merge.methods import METHODS
from tests.lab.cell_file import CellFile
from tests.lab.evaluate import answer_prompts
from tests.lab.language import TASKS, exact_match
from tests.lab.merge_table import complete, measure_missing
from tests.lab.merging import tables
from tests.lab.merging.adapters import BASE, adapter_folder, plan_for, read_update
from tests.lab.merging.cells import MODES, Cell
from tests.lab.merging.charts import Curve, Panel, line_chart
from tests.lab.merging.design import (
    GROWING_SIZES,
    MERGES,
    ORDERS,
    PRUNINGS,
    SAME_RANK,
    SAME_RANK_MERGES,
    SAME_RANK_SIZES,
    TABLE_SIZES,
    Variant,
    Wanted,
    merges,
    prunings,
    subset,
)
from tests.lab.merging.intervals import Interval, difference, interval
from tests.lab.merging.measure import Bench, split
from tests.lab.merging.results import Studies, write_results
from tests.lab.merging.scoring import Exam, Lab
from tests.lab.merging.tables import Measured

ALL = (*MERGES, *SAME_RANK_MERGES, *PRUNINGS)
NOWHERE = Path("not-there")  # trained adapters, which no test needs


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The demo's base."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Lab(BASE)
    torch.set_num_threads(before)


def cell(key: str, tasks: tuple[str, ...] = ("zorp",), mark: float = 0.5) -> Cell:
    """An invented cell, right equally often in every task and mode."""
    marks = dict.fromkeys(tasks, mark)
    return Cell(
        key, "linear", {"rank": 8}, 0, tasks, 8, 1.0, 0.5, dict.fromkeys(MODES, 1.0),
        dict.fromkeys(MODES, marks), 1.0, 0.1,
    )  # fmt: skip


def invented(wanted: Wanted, mark: float) -> Measured:
    """An invented cell in its place."""
    key = f"{wanted.variant.label}/{wanted.seed}/{wanted.tasks}/{wanted.rank}"
    return Measured(wanted, cell(key, wanted.tasks, mark))


def parsed(svg: str) -> ElementTree.Element:
    """Return the tree of a document, which must be XML."""
    return ElementTree.fromstring(svg)  # noqa: S314  # our own text


class CountingBench(Bench):
    """A bench that invents its cells, and breaks down after some."""

    def __init__(self, lasts: int) -> None:
        self.measured: list[str] = []
        self._lasts = lasts

    def key(self, wanted: Wanted) -> str:
        """Return the tasks as they are."""
        return "+".join(wanted.tasks)

    def measure(self, wanted: Wanted) -> Cell:
        """Invent a cell, or break down."""
        if len(self.measured) == self._lasts:
            raise KeyboardInterrupt
        self.measured.append(self.key(wanted))
        return cell(self.key(wanted), wanted.tasks)


PLACES = [Wanted(MERGES[0], 0, 0, (task,)) for task in TASKS]


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    """What was measured before a stop is not measured again, and nothing is left out."""
    path = tmp_path / "deep" / "cells.jsonl"
    first, second = CountingBench(lasts=3), CountingBench(lasts=100)

    with pytest.raises(KeyboardInterrupt):
        measure_missing(first, CellFile(path, Cell.from_line), PLACES, print)
    measure_missing(second, CellFile(path, Cell.from_line), PLACES, print)

    assert list(TASKS) == first.measured + second.measured


def test_a_line_cut_off_is_measured_again(tmp_path: Path) -> None:
    """A run killed in the middle of a line loses that cell alone, and the file stays readable."""
    path = tmp_path / "cells.jsonl"
    cells = CellFile(path, Cell.from_line)
    for key in "abc":
        cells.add(cell(key))
    path.write_text(path.read_text()[:-20])

    cells = CellFile(path, Cell.from_line)
    cells.add(cell("d"))

    assert [cell("a"), cell("b"), None, cell("d")] == [
        CellFile(path, Cell.from_line).get(key) for key in "abcd"
    ]


def test_tables_show_whole_variants_only(tmp_path: Path) -> None:
    """A variant that lacks a cell is named, and is in no table."""
    cells, said = CellFile(tmp_path / "cells.jsonl", Cell.from_line), list[str]()
    other = [one._replace(variant=Variant("other", "linear"), tasks=("x",)) for one in PLACES[:1]]
    for one in PLACES:
        cells.add(cell("+".join(one.tasks)))

    found = complete(CountingBench(0), cells, [*PLACES, *other], said.append)

    assert PLACES == [one.wanted for one in found]
    assert ["not complete, so not in the tables: other"] == said


def test_interval_is_students() -> None:
    """Mean ± 4.303 · s / √3 of three values; one value has no interval."""
    found = interval([1.0, 2.0, 3.0])

    assert 2.0 == found.mean
    assert pytest.approx(4.302653 / 3**0.5, abs=1e-5) == found.half
    assert Interval(0.3, None, 1) == interval([0.3])


@pytest.mark.parametrize(
    ("ours", "theirs", "clear"),
    [
        ([0.9, 0.5, 0.1], [0.8, 0.4, 0.0], True),  # each pair differs by the same
        ([0.9, 0.5, 0.1], [0.1, 0.5, 0.9], False),
        ([0.9], [0.1], False),  # one pair says nothing of spread
    ],
)
def test_a_difference_is_paired(ours: list[float], theirs: list[float], clear: bool) -> None:
    """What varies from pair to pair but not within pairs does not blur a difference."""
    found = difference(ours, theirs)

    assert clear == found.is_clear


def test_the_merge_of_all_counts_once() -> None:
    """All orders end in the same eight tasks: one merge for each adapter seed, not three."""
    measured = [invented(wanted, 0.5) for wanted in merges(MERGES, TASKS)]
    label = MERGES[0].label

    counts = [row.count for row in tables.size_intervals(measured, "best", TABLE_SIZES)[label]]

    assert [9, 9, 3] == counts


def test_summary_lists_the_best_first() -> None:
    """Rows are ordered by the mean at the best scale, and hold it with its interval."""
    marks = {variant.label: i / 100 for i, variant in enumerate(MERGES)}
    measured = [invented(wanted, marks[wanted.variant.label]) for wanted in merges(MERGES, TASKS)]
    expected = [v.label for v in reversed(MERGES) if set(TABLE_SIZES) <= set(v.sizes)]

    rows = tables.summary(measured, MERGES[0].label).splitlines()[2:]

    assert expected == [row.split(" | ")[0].removeprefix("| ") for row in rows]
    assert (
        f" {marks[expected[0]]:.3f} ± 0.000 | **+{marks[expected[0]]:.3f} ± 0.000** (9/9)"
        in rows[0]
    )


def test_duels_say_who_wins_and_whether_it_is_clear() -> None:
    """A paired difference is bold when its interval leaves out 0; wins are counted."""
    assert "**+0.100 ± 0.000** (2/2)" == tables.duel([0.5, 0.75], [0.4, 0.65])
    assert "+0.000 ± 2.541 (1/2)" == tables.duel([0.5, 0.7], [0.7, 0.5])


def test_results_are_whole(tmp_path: Path) -> None:
    """The folder gets tables with every variant, all cells, and charts that are XML."""
    studies = Studies(
        [invented(wanted, 0.25) for wanted in merges(MERGES, TASKS)],
        [invented(wanted, 0.5) for wanted in merges(SAME_RANK_MERGES, SAME_RANK)],
        [invented(wanted, 0.75) for wanted in prunings()],
    )

    text = write_results(tmp_path, studies, {0: dict.fromkeys(TASKS, 1.0)})

    assert text == (tmp_path / "table.md").read_text()
    for variant in ALL:
        assert f"| {variant.label} |" in text
    different = {one.cell.key for study in studies for one in study}
    assert len(different) == (tmp_path / "cells.json").read_text().count('"key"')
    for chart in ("growing.svg", "pruning.svg"):
        parsed((tmp_path / chart).read_text())


def test_results_need_no_cell(tmp_path: Path) -> None:
    """A run stopped before any variant was whole still writes its folder, with empty tables."""
    text = write_results(tmp_path, Studies([], [], []), {})

    assert "| method |" in text


def test_a_chart_stays_in_its_frame() -> None:
    """Values and intervals beyond 0 and 1 are drawn at the frame; labels are escaped."""
    values = [Interval(-0.5, None, 1), Interval(1.5, 9.0, 2)]

    svg = line_chart([Panel("a < b", [Curve("c & d", values)])], ["1", "2"], across="x", up="y")

    tree = parsed(svg)
    [line] = tree.iter("{http://www.w3.org/2000/svg}polyline")
    heights = [float(point.split(",")[1]) for point in line.attrib["points"].split()]
    assert [254.0, 34.0] == heights
    assert {"a < b", "c & d"} <= {text.text for text in tree.iter() if text.text}


def test_every_method_is_measured() -> None:
    """A registered method stands in the tables, and options of the design are the methods' own.

    `safemerge` does not: it takes a safety adapter, which the demo's skills have none of.
    """
    for variant in ALL:
        METHODS[variant.method].bind(variant.options)

    assert METHODS.keys() - {"safemerge"} == {variant.method for variant in ALL}


def test_labels_are_unique() -> None:
    """No two variants share a row."""
    for variants in (MERGES, SAME_RANK_MERGES, PRUNINGS):
        assert len(variants) == len({variant.label for variant in variants})


def test_subsets_grow_and_differ() -> None:
    """A larger subset of an order holds the smaller one; orders differ at every size but eight."""
    for order in range(len(ORDERS)):
        chosen = [set(subset(order, size)) for size in GROWING_SIZES]
        assert all(small < large for small, large in pairwise(chosen))
    for size in GROWING_SIZES[:-1]:
        assert len(ORDERS) == len({subset(order, size) for order in range(len(ORDERS))})
    for size in SAME_RANK_SIZES:
        assert len(ORDERS) == len({subset(o, size, SAME_RANK) for o in range(len(ORDERS))})


def test_validation_and_test_prompts_are_apart() -> None:
    """No prompt on which a scale is chosen is one on which it is tested; no training saw either."""
    for task in TASKS:
        validation, tests = split([task], "validation"), split([task], "test")
        assert not {e.prompt for e in validation[task]} & {e.prompt for e in tests[task]}


def test_keys_tell_recipes_apart() -> None:
    """A cell's key is its recipe's: other options are other keys, other orders of a set are not."""
    bench = Bench.__new__(Bench)
    bench._members, bench._adapters = {}, NOWHERE
    one = Wanted(Variant("a", "linear", {"rank": 8}), 0, 0, subset(0, 8))

    assert bench.key(one) == bench.key(one._replace(order=1, tasks=subset(1, 8)))
    assert bench.key(one) != bench.key(one._replace(variant=Variant("a", "linear", {"rank": 4})))
    assert bench.key(one) != bench.key(one._replace(tasks=subset(0, 5)))


def test_adapter_seeds_are_trained_from_different_seeds() -> None:
    """No two plans of any seed or attempt start from the same training seed for one task."""
    seeds = [plan_for("zorp", seed, attempt).seed for seed in range(3) for attempt in range(3)]

    assert len(seeds) == len(set(seeds))


def test_marks_are_those_of_greedy_decoding(lab: Lab) -> None:
    """One pass over question and answer marks each prompt as decoding token by token does."""
    examples = {name: TASKS[name].prompts(30, seed=5) for name in ("blim", "frob")}
    blim, frob = (read_update(adapter_folder(NOWHERE, 0, name)) for name in examples)
    both = {name: blim[name] + frob[name] for name in blim}
    with lab.updated(both, 0.9):
        answers = {
            name: answer_prompts(lab.model, [e.prompt for e in asked])
            for name, asked in examples.items()
        }
    expected = {
        name: sum(map(exact_match, answers[name], (e.answer for e in asked))) / len(asked)
        for name, asked in examples.items()
    }

    assert expected == lab.marks(Exam.of(examples), both, 0.9)
    assert 0.0 < expected["blim"] < 1.0  # else neither way would have had to tell right from wrong


def test_the_base_is_put_back(lab: Lab) -> None:
    """After a merge was tested, even one that failed, the base has its own weights again."""
    update: dict[str, Any] = read_update(adapter_folder(NOWHERE, 0, "zorp"))
    before = {name: lab.model.get_submodule(name).weight.clone() for name in update}

    with pytest.raises(KeyboardInterrupt), lab.updated(update, 2.0):
        raise KeyboardInterrupt

    assert all(torch.equal(before[n], lab.model.get_submodule(n).weight) for n in update)


def test_a_cell_reads_back_as_it_was() -> None:
    """A cell and the cell of its line are equal."""
    one = replace(cell("a", ("zorp", "blim")), options={"basis": "knots", "rank": None})

    assert one == Cell.from_line(one.to_line())
