"""The lab of verdicts: how its rates come about, and that the committed ones hold the limit."""

from pathlib import Path

import numpy as np
import pytest

from merge.adaptive.candidates import Candidate, Serving
from merge.adaptive.scoring.scored import Scored
from merge.adaptive.verdict import judge
from tests.lab.adapting.tasks import FEW_SHOT
from tests.lab.verdict_table import MARKS, read_cells
from tests.lab.verdicts.chance import (
    RIVALS,
    Unit,
    exact,
    nats_replaced,
    replaced,
    resampled,
    units_of,
)
from tests.lab.verdicts.jobs import Job
from tests.lab.verdicts.results import RULES, Rate, read_results, write_results

RESULTS = Path(__file__).parent / "results" / "2026-11-29-verdict"


@pytest.fixture(scope="module")
def committed() -> tuple[list[Rate], list[Job]]:
    """The committed rates and jobs."""
    return read_results(RESULTS)


def test_the_committed_tables_are_what_rates_and_jobs_say(
    committed: tuple[list[Rate], list[Job]], tmp_path: Path
) -> None:
    """Table, chart and files follow from the committed rates, jobs and marks."""
    write_results(tmp_path, *committed, read_cells(MARKS))

    for name in ("table.md", "rates.json", "jobs.json", "power.svg"):
        assert (RESULTS / name).read_text() == (tmp_path / name).read_text()
    assert list(FEW_SHOT) == [job.task for job in committed[1]]


def test_a_committed_rate_is_drawn_again(committed: tuple[list[Rate], list[Job]]) -> None:
    """The rates follow from the committed marks and a seed."""
    unit, *_ = units_of(read_cells(MARKS))
    for rate in committed[0]:
        if rate.n == 20 and rate.gain in (0.0, 0.1) and rate.rule in RULES:
            share = replaced(unit, 20, rate.gain, RULES[rate.rule], rivals=rate.rivals)
            assert rate.units[0] == pytest.approx(share, abs=1e-5)


def test_chance_replaces_the_fresh_lora_in_one_job_of_forty_at_most(
    committed: tuple[list[Rate], list[Job]],
) -> None:
    """With differences removed, 2.5 % of jobs or fewer replace it at every size, in every unit;
    the verdict before replaced it in up to 9 %."""
    chance = [rate for rate in committed[0] if rate.rule == "exact" and rate.gain == 0.0]
    before = [rate for rate in committed[0] if rate.rivals == len(RIVALS)]

    assert {20, 50, 100, 200} == {rate.n for rate in chance}
    assert all(max(rate.units) <= 0.025 for rate in chance)
    assert max(rate.mean.mean for rate in before) > 0.08


def test_what_is_better_is_seen_more_often() -> None:
    """A rate is the rule's on draws: none without differences between arms, all with a great
    gain, and any of several rivals counts."""
    same = Unit("same", np.tile(np.arange(200, dtype=np.int8) % 2, (6, 1)))
    mixed = Unit("mixed", np.random.default_rng(1).integers(2, size=(6, 200), dtype=np.int8))

    assert 0.0 == replaced(same, 50, 0.0, exact)
    assert replaced(mixed, 100, 0.4, exact) > 0.95
    assert replaced(mixed, 50, 0.0, resampled, rivals=5) > replaced(mixed, 50, 0.0, resampled)


@pytest.mark.parametrize(("wins", "losses"), [(5, 0), (6, 0), (9, 2), (12, 3), (3, 12)])
def test_the_rule_is_the_verdicts(wins: int, losses: int) -> None:
    """The rule of the rates and the verdict of a job agree on the same marks."""
    n = 40
    lora = [True] * 15 + [False] * 25
    ours = [at >= losses for at in range(15)] + [at < wins for at in range(25)]

    def of(name: str, marks: list[bool]) -> Candidate:
        return Candidate(name, "", Scored((1.0,) * n, (1,) * n, tuple(marks), None),
                         Serving("base" if name == "base" else "recipe"))  # fmt: skip

    candidates = [of("base", [False] * n), of("fresh_lora", lora), of("recycle", ours)]
    result = judge(candidates, "recycle", questions=range(n), seed=0)

    assert exact(wins, losses, n) == (result.best == "recycle")


def test_swapped_nats_are_seldom_a_gain() -> None:
    """With the arms swapped by a coin, wild gaps are called gains as seldom as they may be; centred
    they stay skewed, which the test need not forgive."""
    gaps = np.random.default_rng(2).exponential(size=60).tolist()

    assert nats_replaced(gaps, 20, centred=False, jobs=200) < 0.06
    assert nats_replaced(gaps, 20, centred=True, jobs=200) < 0.1
