"""Cross-fitting: learn with each fold left out, measure on it, then learn once more to serve.

A round trains and chooses on four folds and is marked on the fifth, so that nothing that was chosen
has seen its mark; the marks of all rounds are those of the candidate. What is served is trained on
every example, for the median of the rounds' steps (Chernozhukov et al., The Econometrics Journal
21, 2018, for the name and the principle). A finished round is one file, with which a stopped job
goes on. Not covered: one learning (`stages`), the split (`split`), and the verdict (`verdict`).
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from statistics import fmean, median_low
from typing import NamedTuple

from merge.adaptive.candidates import Candidate
from merge.adaptive.context import JobContext, Measured, Setting, Settled, Watch
from merge.adaptive.evaluation import Evaluation
from merge.adaptive.model.base import MemoryBudget
from merge.adaptive.options import Options
from merge.adaptive.pool import PoolMember, ScoreMemory
from merge.adaptive.scoring.examples import Example
from merge.adaptive.scoring.scored import Scored, figures
from merge.adaptive.scoring.scorer import Scorer
from merge.adaptive.split import Round
from merge.adaptive.stages import Staged, Stages
from merge.adaptive.training import Progress
from merge.peft_format.atomic_files import write_atomic

_FOLDS = "folds"  # in a job's folder: a file for each round that is finished


class _Learned(NamedTuple):
    """What a round has learned: candidates by name, and the names of the method's sizes."""

    candidates: Mapping[str, Candidate]
    sizes: Sequence[str]


_Curve = tuple[tuple[int, float, float | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all rounds of a job share."""

    setting: Setting
    options: Options
    model: object
    scorer: Scorer
    examples: Sequence[Example]
    members: Sequence[PoolMember]
    scores: ScoreMemory
    memory: MemoryBudget
    folder: Path
    watch: Watch

    def context(
        self,
        parts: Round,
        *,
        folder: Path | None = None,
        watch: Watch | None = None,
        settled: Settled | None = None,
    ) -> JobContext:
        """Return the context of one learning."""
        train, choice, tests = ([self.examples[at] for at in part] for part in parts)
        return JobContext(
            self.setting, self.options, model=self.model, scorer=self.scorer, train=train,
            validation=choice, tests=tests, folder=folder or self.folder,
            watch=watch or self.watch, settled=settled,
        )  # fmt: skip

    def evaluation(self, shown: Sequence[int]) -> Evaluation:
        """Return the members' scores on the examples that some round may see."""
        context = self.context(Round(tuple(shown), (), ()))
        return Evaluation(context, shown, len(self.members), self.scores)

    def staged(self, context: JobContext, parts: Round, evaluation: Evaluation) -> Staged:
        """Learn once."""
        evaluate = evaluation.on(parts.shown)
        return Stages(context, self.members, evaluate, self.memory).run()


def cross_fitted(bench: Bench, rounds: Sequence[Round], evaluation: Evaluation) -> Staged:
    """Return the candidates marked by every round, and served as trained on all examples.

    Args:
        bench: of the job.
        rounds: whose tests are all examples, each once.
        evaluation: of the pool on all examples.
    """
    learned = [
        _one_round(bench, number, len(rounds), parts, evaluation)
        for number, parts in enumerate(rounds, 1)
    ]
    everything = tuple(range(len(bench.examples)))
    whole = Round(everything, (), everything)
    context = bench.context(whole, watch=_renamed(bench.watch, "all"), settled=_settled(learned))
    served = bench.staged(context, whole, evaluation)
    by_name = {candidate.name: candidate for candidate in served.candidates}
    order = [at for parts in rounds for at in parts.tests]
    candidates = tuple(
        pooled(order, [one.candidates[name] for one in learned], by_name.get(name))
        for name in learned[0].candidates
    )
    for candidate in candidates:
        measured = figures(candidate.judged, seed=bench.options.seed).to_json()
        bench.watch(Measured(candidate.name, measured))
    seconds = sum(made.seconds for one in learned for made in one.candidates.values())
    return replace(served, candidates=candidates, fold_seconds=round(seconds, 3))


def pooled(order: Sequence[int], parts: Sequence[Candidate], served: Candidate | None) -> Candidate:
    """Return one candidate: the marks of each round, and the training that is served.

    Args:
        order: the positions of the rounds' tests among all examples, round by round.
        parts: of each round.
        served: trained on all examples; None for one that cannot be served.
    """
    shown = served or parts[0]
    has_files = any(part.folded is not None for part in parts)
    return replace(
        shown,
        scored=_joined(order, [part.scored for part in parts]),
        folded=_joined(order, [part.judged for part in parts]) if has_files else None,
        refit=None if served is None else served.judged,
        curve=_mean_curve([part.curve for part in parts]),
        seconds=round(sum(part.seconds for part in parts) + (served.seconds if served else 0.0), 3),
    )


def _one_round(
    bench: Bench, number: int, count: int, parts: Round, evaluation: Evaluation
) -> _Learned:
    """Return what a round has learned, from its file if it is finished."""
    file = bench.folder / _FOLDS / f"{number}.json"
    if not file.exists():
        folder = file.with_suffix("")
        watch = _renamed(bench.watch, f"fold {number} of {count}")
        staged = bench.staged(bench.context(parts, folder=folder, watch=watch), parts, evaluation)
        made = [candidate.to_json() for candidate in staged.candidates]
        write_atomic(file, json.dumps({"candidates": made, "sizes": staged.sizes}))
    # Adapters and checkpoints of a round are as large as those of a job, and measured now.
    shutil.rmtree(file.with_suffix(""), ignore_errors=True)
    read = json.loads(file.read_text())
    candidates = map(Candidate.from_json, read["candidates"])
    return _Learned({candidate.name: candidate for candidate in candidates}, read["sizes"])


def _settled(learned: Sequence[_Learned]) -> Settled:
    """Return the rounds' median steps and scales, and the size with the least loss over them."""
    steps: dict[str, list[int]] = defaultdict(list)
    scales: dict[str, list[float]] = defaultdict(list)
    losses: dict[str, list[float]] = defaultdict(list)
    for candidates, _ in learned:
        for name, candidate in candidates.items():
            if candidate.best_step is not None:
                steps[name].append(candidate.best_step)
            if "factor" in candidate.detail:
                scales[name].append(candidate.detail["factor"])
            if candidate.choice_loss is not None:
                losses[name].append(candidate.choice_loss)
    # The lower median of an even number of rounds: a step that was measured.
    return Settled(
        {name: median_low(values) for name, values in steps.items()},
        {name: median_low(values) for name, values in scales.items()},
        min(learned[0].sizes, key=lambda name: fmean(losses[name])),
    )


def _joined(order: Sequence[int], scores: Sequence[Scored]) -> Scored:
    """Return the rounds' scores in the order of all examples."""
    rows = sorted(range(len(order)), key=order.__getitem__)
    return reduce(Scored.then, scores).only(rows)


def _mean_curve(curves: Sequence[_Curve]) -> _Curve:
    """Return the mean of the rounds' losses at each step."""
    points = []
    for same in zip(*curves, strict=True):
        valid = [loss for _, _, loss in same if loss is not None]
        mean = fmean(valid) if len(valid) == len(same) else None
        points.append((same[0][0], fmean(loss for _, loss, _ in same), mean))
    return tuple(points)


def _renamed(watch: Watch, part: str) -> Watch:
    """Return a watch that says which part a step is of; what a part measures is no result yet."""

    def renamed(event: Progress | Measured) -> None:
        if isinstance(event, Progress):
            watch(event._replace(stage=f"{event.stage}, {part}"))

    return renamed
