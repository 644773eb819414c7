"""Tables of adaptive merging: arms by examples, and the paper's findings as paired differences.

A unit is a task with a seed; ± is Student's 95 % interval. Units of one task are alike: intervals
over units speak of these tasks only, those over the tasks' means also of others like them.

Covered: the figures and their Markdown. Not covered: what they mean (the README beside them).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tests.lab.adapting.cells import Cell
from tests.lab.adapting.design import ARMS, EXAMPLES, MOST, Arm
from tests.lab.merging.intervals import Interval, difference, interval

Unit = tuple[str, int]  # task, seed
Place = tuple[str, int]  # arm, examples


class Finding(NamedTuple):
    """One comparison: what the paper says of it, and which arms show it."""

    claim: str
    ours: Place
    theirs: Place


FINDINGS = (
    Finding("adaptive merging beats the base", ("recycle", 100), ("base", 100)),
    Finding("… and the best single member", ("recycle", 100), ("best_single", 100)),
    Finding("… and the average at its best scale", ("recycle", 100), ("scale", 100)),
    *(
        Finding(f"without a target it is below a fresh LoRA, {n} examples", ("recycle", n),
                ("fresh_lora", n))
        for n in EXAMPLES
    ),
    *(
        Finding(f"with the target it is a little above, {n} examples", ("recycle_target", n),
                ("fresh_lora", n))
        for n in EXAMPLES
    ),
    Finding("… so is it with a pool without content", ("random_parameters_target", 100),
            ("fresh_lora", 100)),
    Finding("content matters without the target", ("recycle", 100), ("random_parameters", 100)),
    Finding("content does not matter with the target", ("recycle_target", 100),
            ("random_parameters_target", 100)),
    Finding("the control: the target's own coefficients alone", ("recycle_target", 100),
            ("fresh_lora_retuned", 100)),
    Finding("… retuning alone does nothing to a fresh LoRA", ("fresh_lora_retuned", 100),
            ("fresh_lora", 100)),
    Finding("dropout 0.5 is no substitute", ("fresh_lora_dropout", 100), ("fresh_lora", 100)),
    Finding("a relevant pool beats an irrelevant one", ("recycle_relevant", 100),
            ("recycle_irrelevant", 100)),
    Finding("more adapters: 5 over 2", ("recycle_k5", 100), ("recycle_k2", 100)),
    Finding("more adapters: 10 over 5", ("recycle", 100), ("recycle_k5", 100)),
    Finding("with the target: 5 over 2", ("recycle_target_k5", 100), ("recycle_target_k2", 100)),
    Finding("with the target: 10 over 5", ("recycle_target", 100), ("recycle_target_k5", 100)),
    Finding("LoraHub is below", ("lorahub", 100), ("recycle", 100)),
    Finding("… with the target too", ("lorahub_target", 100), ("recycle_target", 100)),
    Finding("chosen by examples over drawn by lot", ("recycle", 100), ("recycle_lot", 100)),
    Finding("… which does not matter with the target", ("recycle_target", 100),
            ("recycle_target_lot", 100)),
)  # fmt: skip


class Measured:
    """Cells by arm and number of examples; an arm that lacks a unit is left out."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        units = {(cell.task, cell.seed) for cell in cells}
        found: dict[Place, dict[Unit, Cell]] = {}
        for cell in cells:
            found.setdefault((cell.arm, cell.examples), {})[cell.task, cell.seed] = cell
        self.units = sorted(units)
        self.places: Mapping[Place, Mapping[Unit, Cell]] = {
            place: of for place, of in found.items() if of.keys() == units
        }

    def accuracies(self, place: Place, task: str | None = None) -> list[float]:
        """The share of right answers in each unit, or in those of a task."""
        return [
            self.places[place][unit].accuracy
            for unit in self.units
            if task is None or unit[0] == task
        ]

    def mean(self, place: Place, task: str | None = None) -> Interval:
        """The mean over units."""
        return interval(self.accuracies(place, task))

    def gap(self, finding: Finding) -> Interval | None:
        """Ours less theirs over units; None where an arm is not complete."""
        if not {finding.ours, finding.theirs} <= self.places.keys():
            return None
        return difference(self.accuracies(finding.ours), self.accuracies(finding.theirs))

    def gaps(self, finding: Finding) -> list[float] | None:
        """Ours less theirs in each task, the mean over its seeds; None as `gap`."""
        if self.gap(finding) is None:
            return None
        tasks = sorted({task for task, _ in self.units})
        return [
            self.mean(finding.ours, task).mean - self.mean(finding.theirs, task).mean
            for task in tasks
        ]


def summary(measured: Measured, arms: Mapping[str, Arm] = ARMS, examples: int = MOST) -> str:
    """Every arm with so many examples, best first, by task."""
    tasks = sorted({task for task, _ in measured.units})
    names = [name for name in arms if (name, examples) in measured.places]
    names.sort(key=lambda name: -measured.mean((name, examples)).mean)
    head = ["arm", "what", "accuracy", *tasks, "served files", "nats a token"]
    rows = [
        [
            f"`{name}`", arms[name].title, shown(measured.mean((name, examples))),
            *(f"{measured.mean((name, examples), task).mean:.2f}" for task in tasks),
            _folded(measured, (name, examples)), f"{_loss(measured, (name, examples)):.3f}",
        ]
        for name in names
    ]  # fmt: skip
    return table(head, rows)


def by_examples(measured: Measured) -> str:
    """The arms that were measured with every number of examples."""
    names = [name for name, arm in ARMS.items() if arm.examples == EXAMPLES]
    rows = [
        [f"`{name}`", *(shown(measured.mean((name, n))) for n in EXAMPLES)]
        for name in names
        if all((name, n) in measured.places for n in EXAMPLES)
    ]
    return table(["arm", *(f"{n} examples" for n in EXAMPLES)], rows)


def findings(measured: Measured) -> str:
    """Each finding of the paper as a paired difference, bold where its sign is clear."""
    rows = []
    for each in FINDINGS:
        gap, gaps = measured.gap(each), measured.gaps(each)
        if gap is not None and gaps is not None:
            arms = f"`{each.ours[0]}` - `{each.theirs[0]}`"
            above = f"{sum(one > 0 for one in gaps)}/{len(gaps)}"
            rows.append([each.claim, arms, clear(gap), clear(interval(gaps)), above])
    return table(["the claim", "difference", "over units", "over tasks", "tasks above 0"], rows)


def clear(value: Interval) -> str:
    """A difference as text, bold where its interval leaves out 0."""
    text = shown(value, signed=True)
    return f"**{text}**" if value.is_clear else text


def shown(value: Interval, *, signed: bool = False) -> str:
    """An interval as text."""
    mean = f"{value.mean:+.3f}" if signed else f"{value.mean:.3f}"
    return mean if value.half is None else f"{mean} ± {value.half:.3f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _loss(measured: Measured, place: Place) -> float:
    return interval([cell.loss for cell in measured.places[place].values()]).mean


def _folded(measured: Measured, place: Place) -> str:
    found = [cell.folded_accuracy for cell in measured.places[place].values()]
    known = [each for each in found if each is not None]
    return f"{interval(known).mean:.3f}" if len(known) == len(found) else ""
