"""The lab of adaptive merging: its tasks, its places, its file, its tables."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from merge.adaptive.model.base import Loaded, load_base, load_tokenizer
from merge.adaptive.model.hooks import Updates, attached
from merge.adaptive.model.stacked import read_modules, stack
from merge.adaptive.pool import PoolMember
from merge.adaptive.scoring.examples import encode
from merge.adaptive.scoring.generation import answers
from merge.peft_format import open_folder
from tests.lab.adapt_table import measure_missing
from tests.lab.adapting.cells import Cell
from tests.lab.adapting.design import ARMS, EXAMPLES, MOST, SEEDS, Wanted, wanted_cells
from tests.lab.adapting.pool import SKILLS_OF, Pool
from tests.lab.adapting.results import figures, write_results
from tests.lab.adapting.scoring import examine
from tests.lab.adapting.tables import FINDINGS, Measured
from tests.lab.adapting.tasks import FEW_SHOT, LONGEST, TEST_SEED, TESTS_EACH, shown
from tests.lab.adapting.unit import Bench, Unit
from tests.lab.cell_file import CellFile
from tests.lab.language import TASKS, TASKS_WITHOUT_ADAPTER, is_held_out, make_lexicon
from tests.lab.merging.adapters import BASE, adapter_folder
from tests.lab.train_base import BasePlan

RESULTS = Path(__file__).parent / "results" / "2026-11-25-adaptive"


def cell(arm: str, task: str, seed: int, marks: str, examples: int = MOST) -> Cell:
    """Return a cell with these marks."""
    key = f"{arm}/{task}/{seed}/{examples}"
    return Cell(
        key, arm, task, seed, examples, marks, 1.0, marks, 1.0, None, None, ("zorp@0",), 0.1
    )


@pytest.mark.parametrize("name", FEW_SHOT)
def test_held_out_prompts_are_never_shown(name: str) -> None:
    """No test text is among the training or validation texts of any seed."""
    found = FEW_SHOT[name]
    tests = {example.prompt for example in found.task.prompts(TESTS_EACH, TEST_SEED)}

    for seed in SEEDS:
        train, validation = shown(found, MOST, seed)
        prompts = [example.prompt for example in (*train, *validation)]
        assert len(prompts) == len(set(prompts)) == MOST
        assert not tests & set(prompts)
        assert not any(is_held_out(prompt.partition(": ")[2]) for prompt in prompts)


def test_fewer_examples_are_the_first_of_more() -> None:
    """Ten examples are among thirty, and thirty among a hundred: more data, not other data."""
    task = FEW_SHOT["corv"]
    drawn = [[e.prompt for part in shown(task, n, 1) for e in part] for n in EXAMPLES]

    assert drawn[0] == drawn[1][:10] == drawn[2][:10]
    assert drawn[1] == drawn[2][:30]


def test_task_names_are_new_words() -> None:
    """A task's name is neither a word of the base's lexicon nor any other task's."""
    plan = BasePlan()
    lexicon = make_lexicon(plan.lexicon_size, plan.seed)

    assert not FEW_SHOT.keys() & (lexicon.keys() | TASKS.keys() | TASKS_WITHOUT_ADAPTER.keys())


def test_relevant_adapters_share_a_skill() -> None:
    """A pool is cut in two by whether an adapter shares a skill with the task."""
    members = [PoolMember(name, "", Path()) for name in SKILLS_OF]
    pool = Pool(members, list(SKILLS_OF.values()))
    task = FEW_SHOT["mield"]  # reverse dash, sort dash

    assert ["zorp", "blim", "krun"] == [member.reference for member in pool.relevant(task)]
    assert len(members) == len(pool.relevant(task)) + len(pool.irrelevant(task))


def test_every_place_is_wanted_once() -> None:
    """Arms, tasks, seeds and numbers of examples, each once."""
    wanted = list(wanted_cells())

    assert len(wanted) == len(set(wanted)) == 405
    assert {one.arm for one in wanted} == set(ARMS)


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    """The demo's base."""
    return Loaded(load_base(str(BASE), torch.device("cpu")), load_tokenizer(str(BASE)))


def test_marks_are_those_of_greedy_decoding(loaded: Loaded) -> None:
    """One pass marks each prompt as decoding token by token does, case and all."""
    folders = [open_folder(adapter_folder(Path(), 0, name)) for name in ("blim", "frob")]
    layers, layout = stack([read_modules(folder) for folder in folders])
    for name, layer in layers.items():
        layer.gates = torch.full((len(layout.owners[name]),), 0.9)
    asked = [
        encode(loaded.tokenizer, [{"role": "user", "content": e.prompt},
                                  {"role": "assistant", "content": e.answer}], longest=LONGEST)
        for name in ("blim", "frob") for e in TASKS[name].prompts(30, seed=5)
    ]  # fmt: skip
    with attached(loaded.model, Updates(layers)):
        marks = examine(loaded.model, asked).exact_match
        said = answers(loaded.model, loaded.tokenizer, asked, longest=16)

    assert [text == each.answer for text, each in zip(said, asked, strict=True)] == list(marks)
    assert 0 < sum(marks) < len(marks)  # else neither way would have had to tell right from wrong


class Counting(Bench):
    """Measures nothing, and breaks off after some cells."""

    def __init__(self, lasts: int) -> None:
        self.measured: list[Wanted] = []
        self._lasts = lasts

    def key(self, wanted: Wanted) -> str:
        """See `Bench`."""
        return "/".join(map(str, wanted))

    def unit(self, wanted: Wanted) -> Unit:
        """See `Bench`."""
        raise AssertionError(wanted)

    def measure(self, wanted: Wanted) -> Cell:
        """See `Bench`."""
        if len(self.measured) == self._lasts:
            raise KeyboardInterrupt
        self.measured.append(wanted)
        return replace(cell(wanted.arm, wanted.task, wanted.seed, "01"), key=self.key(wanted))


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    """Cells that were measured are not measured again."""
    wanted = list(wanted_cells())[:6]
    first, second = Counting(2), Counting(100)
    with pytest.raises(KeyboardInterrupt):
        measure_missing(first, CellFile(tmp_path / "c", Cell.from_line), wanted, lambda _: None)
    measure_missing(second, CellFile(tmp_path / "c", Cell.from_line), wanted, lambda _: None)

    assert wanted == first.measured + second.measured


def test_differences_are_paired_and_whole() -> None:
    """A finding is the mean of differences by unit; an arm that lacks a unit is in no table."""
    cells = [
        cell("recycle", "corv", 0, "1111"), cell("base", "corv", 0, "0001"),
        cell("recycle", "corv", 1, "1100"), cell("base", "corv", 1, "0000"),
        cell("best_single", "corv", 0, "0000"),
    ]  # fmt: skip
    measured = Measured(cells)
    beats_base, beats_single = FINDINGS[:2]
    gap = measured.gap(beats_base)

    assert gap is not None
    assert (0.625, 2) == (gap.mean, gap.count)
    assert [0.625] == measured.gaps(beats_base)
    assert measured.gap(beats_single) is None
    assert {"base", "recycle"} == figures(measured)["adaptive"].keys()


def test_the_committed_results_are_what_the_cells_say(tmp_path: Path) -> None:
    """Tables, figures and charts follow from the committed cells, and every arm is complete."""
    lines = json.loads((RESULTS / "cells.json").read_text())
    write_results(tmp_path, [Cell.from_line(json.dumps(line)) for line in lines])

    for name in ("table.md", "lab.json", "cells.json", "examples.svg", "adapters.svg"):
        assert (RESULTS / name).read_text() == (tmp_path / name).read_text()
    assert set(ARMS) == json.loads((RESULTS / "lab.json").read_text())["adaptive"].keys()
