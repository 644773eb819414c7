"""What the lab of merged skills promises: marks, design, cells that are kept, figures.

Covered: marks and one whole cell on the tests' tiny base, with untrained adapters; all else on
invented cells. Not covered: what the real base keeps (`tests/lab/results`).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import pytest
import torch

from merge.methods import METHODS
from tests.lab.cell_file import CellFile
from tests.lab.merge_skills import complete, measure_missing
from tests.lab.merging.adapters import BASE, read_update
from tests.lab.skills import SKILLS
from tests.lab.skills.composed import COMPOSED
from tests.lab.skills.early_end import is_open
from tests.lab.skills.evaluate import Examiner, merged_update
from tests.lab.skills.marks import Marker
from tests.lab.skills.merging import figures, measure
from tests.lab.skills.merging.bootstrap import mean_span, share_span
from tests.lab.skills.merging.cells import Alone, Cell
from tests.lab.skills.merging.design import (
    BASELINE,
    LEGO,
    MERGES,
    PRUNINGS,
    SIZES,
    Row,
    Wanted,
    merges,
    prunings,
    subset,
)
from tests.lab.skills.merging.figures import Measured, Scores
from tests.lab.skills.merging.measure import Bench, best_scale, candidates, models_alone
from tests.lab.skills.merging.results import write_results
from tests.lab.skills.passes import layer_of
from tests.lab.skills.skill import Example
from tests.lab.untrained import untrained_adapters

LABELS = replace(SKILLS["triage"], compared="labels")
PAIR = ("mask", "iso")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small products: a second thread waits more than it works."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def examiner() -> Examiner:
    """The tiny base."""
    return Examiner(BASE)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Adapters of the tiny base under the skills' names, untrained."""
    return untrained_adapters(tmp_path_factory.mktemp("adapters"))


def test_marks_are_those_of_decoding_everything(examiner: Examiner) -> None:
    """What is computed once, one pass and decoding only what is open give the marks of decoding
    every answer, and the loss of the whole model.
    """
    update = read_update(BASE.parent / "adapters" / "blim")
    update = {name: u for name, u in update.items() if layer_of(name) > 1}
    rng = Random(4)
    texts = ["".join(rng.choices("abcdefgh", k=rng.randint(3, 7))) for _ in range(8)]
    asked = [Example(f"reverse upper: {text}", text[::-1].upper()) for text in texts]
    # Half of them are right by the program alone, whose labels have no case.
    asked = [*asked[:4], *(Example(e.prompt, e.answer.lower()) for e in asked[4:])]
    asked[1] = Example(asked[1].prompt, asked[1].answer[::-1])
    marker = Marker(examiner, update)

    sheet = marker.sheet(LABELS, asked)
    for scale in (0.0, 6.0, 8.0):
        with examiner.lab.updated(update, scale):
            marks, right = marker.marks(sheet), marker.right(sheet)
            assert marks.exact == examiner._exact(asked)
        expected = examiner.answers(update, scale, LABELS, asked)
        assert [answer.right for answer in expected] == right
        if not scale:
            assert marks.exact == [True, False, True, True, False, False, False, False]
            assert sum(right) == 7 - sum(e.answer != e.answer.lower() for e in asked[4:])

    assert marker.first == 2
    assert marks.nats > 0.1


@pytest.mark.parametrize(
    ("compared", "text", "expected", "open_"),
    [
        ("text", "", "[NAME] left.", True), ("text", " [NAME] l", "[NAME] left.", True),
        ("text", "[NAME] has", "[NAME] left.", False), ("text", "mañ\ufffd", "mañana", True),
        ("labels", "Intent: r", "intent: return", True), ("labels", "return", "intent", False),
        ("json", '{"b"', '{"a": 1}', True), ("json", "The", '{"a": 1}', False),
        ("json", '{"b": "x, y", "a', '{"a": 1, "b": "x, y"}', True),
        ("json", '{"b": "x", "a', '{"a": 1, "b": "x, y"}', False),
        ("table", "|a", "| a |", True), ("table", "a", "| a |", False),
        ("table", "|a|\n|-", "| a |\n| --- |\n| b |", True),
        ("table", "|b|\n|-", "| a |\n| --- |\n| b |", False),
        ("rows", "sel", "SELECT 1", True), ("rows", "SELECT 2", "SELECT 1", True),
        ("rows", "The", "SELECT 1", False), ("rows", "With x", "SELECT 1", True),
    ],
)  # fmt: skip
def test_decoding_ends_where_no_program_could_accept(
    compared: str, text: str, expected: str, *, open_: bool
) -> None:
    """A beginning is given up only if no answer that begins so is right."""
    assert is_open(compared, text, expected) is open_


def test_a_cell_is_the_merge_as_weft_makes_it(
    adapters: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell's counts are those of weft's merge at its scales on the tests' prompts; its key is of
    recipe, scales and protocol.
    """
    monkeypatch.setattr(measure, "TESTS", 2)
    monkeypatch.setattr(measure, "VALIDATION", 2)
    bench = Bench(BASE, adapters)
    wanted = Wanted(Row("a", "linear", {"rank": 2}), PAIR)

    cell = bench.measure(wanted)

    assert cell == Cell.from_line(cell.to_line())
    assert cell.key == bench.key(wanted)
    assert set(cell.scales) == set(cell.right) == {"1", "match", "best"}
    assert set(cell.composed) == {"mask+iso"}
    assert (cell.rank, cell.skills, cell.tests) == (2, PAIR, 2)
    update = merged_update("linear", [adapters(name) for name in PAIR], {"rank": 2})
    whole = sum(float(u.square().sum()) for u in update.values()) ** 0.5
    own = [
        sum(float(u.square().sum()) for u in read_update(adapters(name)).values()) ** 0.5
        for name in PAIR
    ]
    assert cell.norm == pytest.approx(2 * whole / sum(own), rel=1e-2)
    others = (
        wanted._replace(skills=("triage", "sql")),
        wanted._replace(row=replace(wanted.row, modes=("1",))),
        wanted._replace(row=replace(wanted.row, options={"rank": 1})),
    )
    assert len({bench.key(one) for one in (wanted, *others)}) == 4
    alone = bench.alone("sql", SKILLS["sql"])
    assert alone == Alone.from_line(alone.to_line())
    assert alone.key != bench.alone_key("base", SKILLS["sql"])


def test_subsets_are_random_and_the_same_again() -> None:
    """A round has one subset of each size; all eight are in the first round alone, and the options
    of every row are the method's own.
    """
    wanted = list(merges(3))

    assert [len(one.skills) for one in wanted if one.row.label == BASELINE] == [
        *SIZES, *SIZES[:-1], *SIZES[:-1],
    ]  # fmt: skip
    assert len({subset(number, 5) for number in range(3)}) == 3
    assert subset(1, 4) == subset(1, 4)
    for one in (*wanted, *prunings()):
        METHODS[one.row.method].bind(one.options)
    for rows in (MERGES, PRUNINGS):
        assert len(rows) == len({row.label for row in rows})
    assert {BASELINE, LEGO} <= {row.label for row in MERGES}


def test_the_best_scale_is_of_most_answers_then_the_likeliest() -> None:
    """Validation prompts choose by exact answers, then by nats, then by nearness to the matched
    norm; a scale near 1 is 1.
    """
    assert best_scale({0.5: (0.2, 1.0), 1.0: (0.4, 3.0), 2.0: (0.4, 2.0)}, 1.0) == 2.0
    assert best_scale({0.5: (0.4, 2.0), 0.8: (0.4, 2.0), 1.0: (0.4, 2.0)}, 0.7) == 0.8
    assert candidates(0.97) == pytest.approx([0.679, 1.0, 1.358, 1.94])
    assert candidates(0.5) == pytest.approx([0.35, 0.5, 0.7, 1.0])


def invented(wanted: Wanted, right: int) -> Cell:
    """Return a cell in which every task has so many of eight answers right."""
    modes = wanted.row.modes
    return Cell(
        key=f"{wanted.row.label}/{wanted.skills}/{wanted.rank}", row=wanted.row.label,
        method=wanted.row.method, options=wanted.options, skills=wanted.skills, rank=8, norm=1.0,
        cosine=0.5, scales=dict.fromkeys(modes, 1.0), tried={},
        right={mode: dict.fromkeys(wanted.skills, right) for mode in modes},
        composed={task.name: right for task in wanted.tasks}, tests=8, merge_seconds=1.0,
        cpu_seconds=1.0,
    )  # fmt: skip


def invented_alone(own: int = 8, composed: int = 2) -> list[Alone]:
    """Return models alone: the base answers one of eight, adapters `own` and `composed`."""
    counts = {
        (model, task.name): 1 if model == "base" else own if model == task.name else composed
        for model, task in models_alone()
    }
    return [Alone(f"{m}/{t}", m, t, right, 8, 1.0) for (m, t), right in counts.items()]


class Recording:
    """A bench that invents cells and remembers which."""

    def __init__(self) -> None:
        self.measured: list[Wanted] = []

    def key(self, wanted: Wanted) -> str:
        """What an invented cell's key is."""
        return invented(wanted, 0).key

    def measure(self, wanted: Wanted) -> Cell:
        """Invent a cell."""
        self.measured.append(wanted)
        return invented(wanted, len(self.measured) % 9)


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    """Cells that are in the file are not measured again, and a row with a missing cell is left out
    of the tables.
    """
    wanted = list(merges(1))[: 2 * len(SIZES)]
    bench = Recording()
    said: list[str] = []
    cells = CellFile(tmp_path / "cells.jsonl", Cell.from_line)
    measure_missing(bench, cells, wanted[: len(SIZES) + 1], said.append)  # type: ignore[arg-type]
    again = CellFile(tmp_path / "cells.jsonl", Cell.from_line)

    partial = complete(bench, again, wanted, said.append)  # type: ignore[arg-type]
    measure_missing(bench, again, wanted, said.append)  # type: ignore[arg-type]

    assert {one.wanted.row.label for one in partial} == {BASELINE}
    assert bench.measured == wanted
    assert len(complete(bench, again, wanted, said.append)) == len(wanted)  # type: ignore[arg-type]


def test_figures_are_what_they_say() -> None:
    """Retention is over the own adapter's score, the worst is of one skill, a gain is over the best
    ingredient, and a skill that its adapter cannot do is left out.
    """
    scores = Scores(
        replace(one, right=0) if (one.model, one.task) == ("table", "table") else one
        for one in invented_alone(own=4, composed=2)
    )
    cell = invented(Wanted(Row("a", "cat"), ("mask", "iso", "table")), 3)
    cell = replace(cell, right={"1": {"mask": 2, "iso": 4, "table": 8}})

    assert scores.retentions(cell, "1") == [0.5, 1.0]
    assert scores.beats_base(cell, "1")
    assert not scores.beats_base(replace(cell, right={"1": dict.fromkeys(cell.skills, 1)}), "1")
    assert scores.gain(cell) == pytest.approx(1 / 8)
    assert scores.gain(replace(cell, composed={})) is None
    other = replace(cell, right={"1": {"mask": 1, "iso": 4, "table": 0}})
    rows = [[Measured(Wanted(Row("a", "cat"), cell.skills), one)] for one in (cell, other)]
    assert figures.difference(rows[0], rows[1], scores, "1").mean == pytest.approx(0.125)
    own = figures.figures(rows[0], scores, "1")
    assert (own.mean.mean, own.worst.mean, own.beats_base.mean) == (0.75, 0.5, 1.0)


def test_intervals_have_a_width() -> None:
    """An interval holds its mean and is the same again; one value has none, and a share of all or
    none still has one.
    """
    rng = Random(0)
    values = [rng.random() for _ in range(13)]

    mean, low, high = mean_span(values)
    assert low is not None
    assert high is not None
    assert low < mean < high
    assert mean_span(values) == (mean, low, high)
    assert mean_span([0.5]) == (0.5, None, None)
    assert mean_span([0.5, 0.7]).is_clear
    assert not mean_span([-0.5, 0.7]).is_clear
    never, always = share_span([False] * 13), share_span([True] * 13)
    assert (never.low, always.high) == (0.0, 1.0)
    assert never.high == pytest.approx(0.228, abs=0.001)


def test_results_are_written_from_any_cells(tmp_path: Path) -> None:
    """Tables have every complete row, with what a factor alone decides marked; the chart is whole;
    without any cell there are empty ones.
    """
    rng = Random(0)
    merged = [Measured(one, invented(one, rng.randint(0, 8))) for one in merges(2)]
    pruned = [Measured(one, invented(one, rng.randint(0, 8))) for one in prunings()]

    text = write_results(tmp_path, merged, pruned, invented_alone())

    assert text == (tmp_path / "table.md").read_text()
    for row in (*MERGES, *PRUNINGS):
        assert f"| {row.label} |" in text
    average = next(line for line in text.split("\n") if line.startswith("| average | 8 |"))
    assert average.split(" | ")[4:7] == ["=", "=", "="]
    assert "over 13 random subsets" in text
    assert (tmp_path / "cells.json").read_text().count('"key"') == len(merged) + len(pruned) + len(
        invented_alone()
    )
    tree = ElementTree.parse(tmp_path / "retention.svg")  # noqa: S314  # our own text
    labels = {text.text for text in tree.iter() if text.text}
    assert {row.label for row in MERGES} <= labels
    assert "| method |" in write_results(tmp_path / "empty", [], [], invented_alone())
    assert {task.name for _, task in models_alone()} == {*SKILLS, *COMPOSED}
