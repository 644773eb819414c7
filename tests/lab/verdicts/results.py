"""The folder of results: table.md, rates.json, jobs.json and a chart.

Covered: what is generated from rates and jobs. Not covered: the README beside it, which says what
the figures mean and is written by a person.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lab.adapting.cells import Cell
from tests.lab.adapting.tables import table
from tests.lab.merging.charts import Curve, Panel, line_chart
from tests.lab.merging.intervals import Interval, interval
from tests.lab.verdicts.chance import (
    GAINS,
    JOBS,
    LORA,
    METHOD,
    RIVALS,
    SIZES,
    Rule,
    Unit,
    exact,
    nats_replaced,
    replaced,
    resampled,
    stated,
)
from tests.lab.verdicts.jobs import Job

HEAD = """\
# What a verdict is worth: figures

Made by `make lab-verdict`. Shares of jobs, {jobs} draws for each of {units} units (a task with a
seed), in percent; the mean over units, ± Student's 95 % interval, and the largest of a unit.
"""


@dataclass(frozen=True, slots=True)
class Rate:
    """How often one rule replaces the fresh LoRA."""

    rule: str
    rivals: int
    n: int
    gain: float
    units: tuple[float, ...]  # the share of jobs, unit by unit

    @property
    def mean(self) -> Interval:
        """The mean over units."""
        return interval(self.units)


NATS_SIZES = (20, 100)
RULES: dict[str, Rule] = {"exact": exact, "bootstrap": resampled}


def measured_rates(units: Sequence[Unit]) -> Iterator[Rate]:
    """Every rate of the tables."""
    for n in SIZES:
        for gain in GAINS:
            yield _rate(units, "exact", 1, n, gain)
        yield _rate(units, "bootstrap", 1, n, 0.0)
        yield _rate(units, "bootstrap", len(RIVALS), n, 0.0)
        yield Rate("stated", 1, n, 0.0, tuple(round(stated(unit, n), 4) for unit in units))


def nats_rates(jobs: Sequence[Job]) -> Iterator[Rate]:
    """How often the sign-flip test sees a gain in draws of nats without one; by job."""
    for rule, centred in (("swapped", False), ("centred", True)):
        for n in NATS_SIZES:
            shares = (nats_replaced(_gaps(job), n, centred=centred) for job in jobs)
            yield Rate(rule, 1, n, 0.0, tuple(round(share, 4) for share in shares))


def _gaps(job: Job) -> list[float]:
    """Return what the method takes off the fresh LoRA's nats, answer by answer."""
    pairs = zip(job.nats[LORA], job.nats["recycle"], strict=True)
    return [lora - ours for lora, ours in pairs]


def _rate(units: Sequence[Unit], rule: str, rivals: int, n: int, gain: float) -> Rate:
    shares = (replaced(unit, n, gain, RULES[rule], rivals=rivals) for unit in units)
    return Rate(rule, rivals, n, gain, tuple(round(share, 5) for share in shares))


def write_results(
    out: Path, rates: Sequence[Rate], jobs: Sequence[Job], cells: Sequence[Cell]
) -> str:
    """Write everything into the folder `out`; return the text of table.md."""
    out.mkdir(parents=True, exist_ok=True)
    text = all_tables(rates, jobs, cells)
    (out / "table.md").write_text(text)
    (out / "rates.json").write_text(_lines([json.dumps(asdict(rate)) for rate in rates]))
    (out / "jobs.json").write_text(_lines([job.to_line() for job in jobs]))
    (out / "power.svg").write_text(power_chart(rates))
    return text


def read_results(out: Path) -> tuple[list[Rate], list[Job]]:
    """Return the rates and the jobs of a folder of results."""
    rates = json.loads((out / "rates.json").read_text())
    jobs = json.loads((out / "jobs.json").read_text())
    return (
        [Rate(**{**rate, "units": tuple(rate["units"])}) for rate in rates],
        [Job.from_line(json.dumps(job)) for job in jobs],
    )


def _lines(values: Sequence[str]) -> str:
    return "[\n" + ",\n".join(values) + "\n]\n"


def all_tables(rates: Sequence[Rate], jobs: Sequence[Job], cells: Sequence[Cell]) -> str:
    """The text of table.md."""
    units = max(len(rate.units) for rate in rates)
    parts = [
        HEAD.format(jobs=f"{JOBS:,}", units=units),
        f"## Replaced, though nothing is better\n\n{chance_table(rates)}",
        f"## Replaced by what is better\n\n{power_table(rates)}",
        f"## Five jobs\n\n{jobs_table(jobs, cells)}",
        f"## Nats\n\n{nats_table(rates, jobs)}",
    ]
    return "\n".join(parts)


def chance_table(rates: Sequence[Rate]) -> str:
    """By questions: how often chance replaces the fresh LoRA, now and before."""
    rows = []
    for n in SIZES:
        now, one = _find(rates, "exact", 1, n), _find(rates, "bootstrap", 1, n)
        several = _find(rates, "bootstrap", len(RIVALS), n)
        rows.append([str(n), *(f"{_shown(rate)}, at most {100 * max(rate.units):.1f}"
                               for rate in (now, one, several))])  # fmt: skip
    head = ["questions", "this verdict", "a paired bootstrap, one rival",
            f"the same, {len(RIVALS)} rivals (the verdict before)"]  # fmt: skip
    return table(head, rows)


def power_table(rates: Sequence[Rate]) -> str:
    """By questions and true gain: how often the method replaces the fresh LoRA."""
    rows = [
        [str(n), *(_shown(_find(rates, "exact", 1, n, gain)) for gain in GAINS[1:]),
         f"{100 * _find(rates, 'stated', 1, n).mean.mean:.0f} points"]
        for n in SIZES
    ]  # fmt: skip
    head = ["questions", *(f"+{100 * gain:.0f} points" for gain in GAINS[1:]), "said to be visible"]
    return table(head, rows)


def jobs_table(jobs: Sequence[Job], cells: Sequence[Cell]) -> str:
    """By task: what a job says on its hundred examples, and 200 other prompts on the same arms."""
    marks = {(one.task, one.arm): one.accuracy for one in cells
             if one.examples == 100 and one.seed == 0}  # fmt: skip
    rows = []
    for job in jobs:
        ours, lora = (job.marks[name].count("1") / len(job.tokens) for name in ("recycle", LORA))
        truth = marks[job.task, METHOD] - marks[job.task, LORA]
        rows.append([
            f"`{job.task}`", f"{lora:.2f}", f"{100 * (ours - lora):+.0f}", f"{100 * truth:+.1f}",
            job.sentence, f"{job.seconds:.0f} s, {job.fold_seconds:.0f} for folds",
        ])  # fmt: skip
    head = ["task", "fresh LoRA", "recycle adds, points", "on 200 other prompts", "the verdict",
            "learning"]  # fmt: skip
    return table(head, rows)


def nats_table(rates: Sequence[Rate], jobs: Sequence[Job]) -> str:
    """By task: the method's nats, and how often chance looks like a gain in them."""
    shares = [_find(rates, rule, 1, n).units for rule in ("swapped", "centred") for n in NATS_SIZES]
    rows = [
        [f"`{job.task}`", f"{sum(_gaps(job)) / sum(job.tokens):+.3f}",
         *(f"{100 * share[at]:.1f}" for share in shares)]
        for at, job in enumerate(jobs)
    ]  # fmt: skip
    few, many = NATS_SIZES
    head = ["task", "recycle adds, nats per token", f"a gain by chance at {few}, arms swapped",
            f"at {many}", f"at {few}, centred", f"at {many}"]  # fmt: skip
    return table(head, rows)


def power_chart(rates: Sequence[Rate]) -> str:
    """The share of jobs in which the method is served, over its true gain."""
    curves = [
        Curve(f"{n} questions", [_find(rates, "exact", 1, n, gain).mean for gain in GAINS])
        for n in SIZES
    ]
    ticks = [f"{100 * gain:.0f}" for gain in GAINS]
    return line_chart(
        [Panel("", curves)], ticks, across="true gain, points", up="method replaces the fresh LoRA"
    )


def _find(rates: Sequence[Rate], rule: str, rivals: int, n: int, gain: float = 0.0) -> Rate:
    wanted = (rule, rivals, n, gain)
    return next(one for one in rates if (one.rule, one.rivals, one.n, one.gain) == wanted)


def _shown(rate: Rate) -> str:
    return f"{100 * rate.mean.mean:.1f} ± {100 * (rate.mean.half or 0.0):.1f}"
