"""What the lab of learning over the real base's skills promises: passes, cells, rounds, answers.

Covered: passes and a cell of every arm on the tests' tiny base, with untrained adapters; all else
on invented cells. Not covered: what the real base learns (`tests/lab/results`).
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
import torch

from merge.adaptive.model.base import load_base, load_tokenizer
from merge.adaptive.model.fresh_lora import Fresh, FreshPlan, linear_widths
from merge.adaptive.model.hooks import attached
from merge.adaptive.options import Options
from merge.adaptive.scoring.examples import IGNORED, collate
from merge.adaptive.scoring.losses import measure_losses, nll
from tests.lab.adapting.cells import Cell
from tests.lab.adapting.design import Wanted
from tests.lab.merging.adapters import BASE
from tests.lab.skills import SKILLS
from tests.lab.skills.adapting import measure
from tests.lab.skills.adapting.design import (
    ARMS,
    BLIND,
    EXAMPLES,
    HELD_OUT,
    QUESTIONS,
    ROUNDS,
    SEEDS,
    wanted_cells,
)
from tests.lab.skills.adapting.figures import gaps, rounds
from tests.lab.skills.adapting.measure import OPTIONS, SkillBench, split
from tests.lab.skills.adapting.results import write_results
from tests.lab.skills.passes import UpperLayers
from tests.lab.untrained import LAYERS, untrained_adapters

TAUGHT = [arm for arm in ARMS if arm not in BLIND]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small products: a second thread waits more than it works."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_upper_layers_give_what_the_base_gives() -> None:
    """Losses and gradients are those of the whole base, also after a pass without gradients, and
    only the layers with adapters are there to be changed.
    """
    base = load_base(str(BASE), torch.device("cpu"))
    upper = UpperLayers(base, [f"model.layers.{n}.mlp.up_proj" for n in LAYERS]).eval()
    examples = split(load_tokenizer(str(BASE)), SKILLS["style"], 5, seed=1).train
    batch = collate(examples, torch.device("cpu"))
    fresh = Fresh(linear_widths(upper), FreshPlan(rank=2, dropout=0.0))
    weights = list(fresh.parameters())
    with torch.no_grad():
        for number, weight in enumerate(weights):
            weight.add_(0.02 * torch.sin(torch.arange(weight.numel()).view_as(weight) + number))
    with attached(upper, fresh):
        before = measure_losses(upper, examples).nll
        ours = nll(upper, batch)
        slopes = torch.autograd.grad(ours.sum(), weights)
    with attached(base, fresh):
        theirs = nll(base, batch)
        expected = torch.autograd.grad(theirs.sum(), weights)

    assert ours.tolist() == pytest.approx(theirs.tolist(), rel=1e-4)
    assert before == pytest.approx(theirs.tolist(), rel=1e-4)
    assert {name.split(".")[2] for name in linear_widths(upper)} == {str(n) for n in LAYERS}
    for one, other in zip(slopes, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_examples_are_as_adapters_were_trained() -> None:
    """Answers alone are labelled, with the token that ends them; thirty examples are the first of
    a hundred; no held-out question is among them.
    """
    tokenizer = load_tokenizer(str(BASE))
    few, many = (split(tokenizer, SKILLS["spanish"], n, seed=1) for n in (10, 30))

    assert [len(part) for part in (few.train, few.validation, few.tests)] == [8, 2, measure.TESTS]
    assert [e.prompt for e in (*few.train, *few.validation)] == [e.prompt for e in many.train[:10]]
    for one in few.train:
        answer = one.tokens[len(one.prompt) :]
        assert one.labels == (*[IGNORED] * len(one.prompt), *answer)
        assert answer[-1] == tokenizer.eos_token_id
    shown = {e.prompt for e in (*many.train, *many.validation)}
    assert not shown & {e.prompt for e in many.tests}


def test_a_cell_of_every_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every arm learns over the adapters of all other skills and is marked on the held-out
    questions; what would be served answers as what was learned; keys are of place and protocol.
    """
    monkeypatch.setattr(measure, "TESTS", 2)
    short = {"steps": 2, "fresh_steps": 2, "evaluate_every": 2, "budget": 2}
    options = Options.parse({**OPTIONS.to_json(), **short})
    adapters = untrained_adapters(tmp_path / "adapters")
    bench = SkillBench(BASE, adapters, tmp_path / "study", options)

    cells = {arm: bench.measure(Wanted(arm, "spanish", 1, 5)) for arm in ARMS}

    others = {name for name in SKILLS if name != "spanish"}
    for arm, cell in cells.items():
        assert cell == Cell.from_line(cell.to_line())
        assert (cell.arm, cell.task, cell.seed, cell.examples) == (arm, "spanish", 1, 5)
        assert len(cell.marks) == 2
        assert cell.energy is None or cell.energy == pytest.approx(1.0, abs=1e-4)  # exact folds
        if cell.folded_loss is not None:
            assert cell.folded_loss == pytest.approx(cell.loss, rel=0.02)
    assert set(cells["recycle"].members) == set(cells["average"].members) == others
    assert set(cells["recycle_target"].members) == {*others, "fresh_lora"}
    assert set(cells["best_single"].members) < others
    assert cells["random_parameters"].folded_loss is None
    assert len({cell.key for cell in cells.values()}) == len(ARMS)
    again = SkillBench(BASE, adapters, tmp_path / "study", OPTIONS)
    assert again.key(Wanted("base", "spanish", 1, 5)) != cells["base"].key
    assert not any((tmp_path / "study" / "contexts" / c.key).exists() for c in cells.values())


def test_every_place_is_wanted_once() -> None:
    """A round is whole before the next one begins, arms that learn nothing come first, and those
    that see no example are measured once a skill.
    """
    wanted = list(wanted_cells())
    sizes = [len(ARMS) * len(HELD_OUT)] + [len(TAUGHT) * len(HELD_OUT)] * (len(ROUNDS) - 1)

    assert len(wanted) == len(set(wanted)) == sum(sizes)
    assert [(one.seed, one.examples) for one in wanted] == [
        place for place, size in zip(ROUNDS, sizes, strict=True) for _ in range(size)
    ]
    assert ROUNDS == ((SEEDS[0], 100), (SEEDS[0], 30), (SEEDS[1], 100), (SEEDS[1], 30))
    assert [one.arm for one in wanted[:: len(HELD_OUT)]][: len(ARMS)] == list(ARMS)
    assert {q.ours for q in QUESTIONS} | {q.theirs for q in QUESTIONS} == set(ARMS)


def invented(one: Wanted, marks: Callable[[Wanted], str]) -> Cell:
    """Return a cell with these marks."""
    key, loss = "/".join(map(str, one)), marks(one).count("0") / 8
    return Cell(key, *one, marks(one), loss, marks(one), loss, None, None, ("sql",), 3.0)


def some(one: Wanted) -> str:
    """Marks that differ from cell to cell."""
    rng = Random("/".join(map(str, one)))
    return "".join(rng.choice("01") for _ in range(8))


def test_rounds_that_are_not_whole_do_not_count() -> None:
    """A missing cell leaves out its round; while the first one is not whole, its arms that are
    complete stand alone; arms that see no example stand in every round.
    """
    wanted = list(wanted_cells())
    cells = [invented(one, some) for one in wanted]
    start = len(ARMS) * len(HELD_OUT)
    more = len(TAUGHT) * len(HELD_OUT)

    whole = rounds(cells)
    assert list(whole) == list(EXAMPLES)
    assert all(m.units == sorted((t, s) for t in HELD_OUT for s in SEEDS) for m in whole.values())
    assert all(len(m.places) == len(ARMS) for m in whole.values())
    assert whole[30].accuracies(("base", 30), "mask") == [cells[0].accuracy] * len(SEEDS)
    assert list(rounds(cells[: start + more - 1])) == [100]
    assert len(rounds(cells[: start + 2 * more])[100].units) == 2 * len(HELD_OUT)
    assert len(rounds(cells[: start + 2 * more])[30].units) == len(HELD_OUT)
    begun = rounds(cells[: 3 * len(HELD_OUT) + 1])[100]
    assert {arm for arm, _ in begun.places} == {"base", "average", "best_single"}
    assert rounds([])[100].places == {}


def test_answers_say_what_the_figures_say() -> None:
    """A gain is clear over the questions, its loss is named, and where nothing differs no answer is
    given; intervals are over questions, which seeds share.
    """

    def marks(one: Wanted) -> str:
        return {"recycle": "1" * 8, "fresh_lora": "11110000"}.get(one.arm, "0" * 8)

    cells = [invented(one, marks) for one in wanted_cells()]
    answers = {g.question[1:3]: g for g in gaps(rounds(cells)[100], 100)}

    beats = answers["recycle", "base"]
    assert beats.over_questions.value == beats.over_units.mean == 1.0
    assert beats.nats.mean == -1.0
    assert beats.answer.startswith("Yes: +100 points")
    half = answers["recycle", "fresh_lora"]
    assert half.over_questions.value == 0.5
    same = answers["recycle_target", "random_parameters_target"]
    assert same.over_questions.low < 0.0 < same.over_questions.high
    assert same.answer.startswith("Cannot tell: +0 points")
    worse = answers["recycle_target", "fresh_lora"]
    assert worse.answer.startswith("No, it is worse: -50 points")
    one_seed = gaps(rounds([c for c in cells if c.seed == SEEDS[0]])[100], 100)
    assert one_seed[0].over_questions == beats.over_questions


def test_results_are_written_from_any_cells(tmp_path: Path) -> None:
    """The page has every arm and every answer of each number of examples, and is the same again;
    without any cell it says how it would be made.
    """
    cells = [invented(one, some) for one in wanted_cells()]

    text = write_results(tmp_path, cells)

    assert text == (tmp_path / "README.md").read_text() == write_results(tmp_path, cells)
    assert (tmp_path / "cells.json").read_text().count('"key"') == len(cells)
    for arm in ARMS.values():
        assert text.count(f"| {arm.title} |") == len(EXAMPLES)
    for question in QUESTIONS:
        assert text.count(f"- {question.text} ") >= len(EXAMPLES)
    assert "make lab-skills-adaptive" in write_results(tmp_path / "none", [])
