"""LoraHub: one weight per adapter, found without gradients (arXiv 2307.13269).

Minimises cross-entropy + 0.05 · mean|w| with nevergrad's NGOpt from w = 0 in [-1.5, 1.5]. The
update is the exact Σ w s B A; `cross_terms` gives the original's (Σ w B)(Σ w A) instead, which is
weft's `average_factors(split=full)`. The budget is that of arXiv 2602.12323; the original's is 40.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nevergrad as ng

from merge.adaptive.candidates import Candidate, Serving
from merge.adaptive.context import AdapterRef, JobContext, checkpoint_of
from merge.adaptive.methods.fold import (
    NOT_SERVABLE,
    Fold,
    Ingredients,
    fold_recipe,
    fold_sum,
    fold_weights,
)
from merge.adaptive.model.hooks import Updates
from merge.adaptive.training import Progress
from merge.errors import MergeError
from merge.factors import Factors, Stack
from merge.methods.average_factors import average_factors

PENALTY = 0.05


@dataclass(frozen=True, slots=True)
class Search:
    """One search for weights."""

    members: int
    budget: int = 100
    bound: float = 1.5
    seed: int = 0


Objective = Callable[[Sequence[float]], float]
Report = Callable[[int, float], None]


def search_weights(
    search: Search, loss: Objective, *, history: Path | None = None, report: Report | None = None
) -> tuple[float, ...]:
    """Return the weights that NGOpt recommends.

    Args:
        search: its size, bounds and seed.
        loss: nats per answer token for some weights.
        history: a file of measured losses. A search that was stopped resumes without measuring them
            again: the optimiser's questions depend on its seed and the earlier losses alone.
        report: called with (evaluations done, the loss of the last).

    Raises:
        OSError: the history cannot be written.
    """
    start = ng.p.Array(init=[0.0] * search.members, lower=-search.bound, upper=search.bound)
    start.random_state.seed(search.seed % 2**32)  # NumPy's old generator takes 32 bits
    optimizer = ng.optimizers.NGOpt(parametrization=start, budget=search.budget)
    known = _read(history)
    with warnings.catch_warnings():
        # nevergrad passes small budgets to scipy, which raises them and warns.
        warnings.filterwarnings("ignore", message="COBYLA", category=UserWarning)
        for done in range(search.budget):
            point = optimizer.ask()
            weights = [float(w) for w in point.value]
            if done < len(known):
                value = known[done]
            else:
                value = loss(weights)
                _append(history, value)
            optimizer.tell(point, value + PENALTY * sum(map(abs, weights)) / search.members)
            if report is not None:
                report(done + 1, value)
        return tuple(float(w) for w in optimizer.recommend().value)


def _read(history: Path | None) -> list[float]:
    if history is None or not history.exists():
        return []
    text = history.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:  # drop a line that a crash cut off
        history.write_text(whole)
    return [float(json.loads(line)) for line in whole.splitlines()]


def _append(history: Path | None, value: float) -> None:
    if history is not None:
        with history.open("a") as file:
            file.write(f"{json.dumps(value)}\n")


def lorahub(context: JobContext, name: str, title: str, over: Ingredients) -> Candidate:
    """One weight per adapter, by NGOpt on the training loss."""
    options = context.options
    make = (
        _with_cross_terms(context, over)
        if options.cross_terms
        else context.weighted(over.modules, over.embeddings)
    )

    def loss(weights: Sequence[float]) -> float:
        return context.scorer.losses(make(weights), context.train).mean

    def report(done: int, value: float) -> None:
        context.watch(Progress(name, done, options.budget, value))

    search = Search(len(over.adapters), options.budget, options.bound, options.seed)
    history = checkpoint_of(context, name).with_suffix(".jsonl")
    weights = search_weights(search, loss, history=history, report=report)
    scored = context.scorer.score(make(weights), context.tests)
    choice_loss = None
    if context.validation:
        choice_loss = context.scorer.losses(make(weights), context.validation).mean
    fold = NOT_SERVABLE if over.is_noise else _fold_weighted(context, name, weights, over.adapters)
    return Candidate(
        name, title, scored, fold.serving, folded=fold.scored, energy=fold.energy,
        members=over.references, detail={"weights": list(weights)},
        choice_loss=choice_loss,
    )  # fmt: skip


def _with_cross_terms(
    context: JobContext, over: Ingredients
) -> Callable[[Sequence[float]], Updates]:
    """Return a function from weights to (Σ w √s B)(Σ w √s A), LoraHub's own; needs equal ranks."""
    by_adapter = [dict(modules) for modules in over.modules]  # read once
    names = sorted({name for modules in by_adapter for name in modules})

    def make(weights: Sequence[float]) -> Updates:
        merged: dict[str, Factors] = {}
        for name in names:
            having = [at for at, modules in enumerate(by_adapter) if name in modules]
            members = tuple(by_adapter[at][name] for at in having)
            stacked = Stack(name, members, tuple(weights[at] for at in having))
            merged[name] = average_factors(stacked, split="full").factors
        return context.weighted([merged], over.embeddings)([1.0])

    return make


def _fold_weighted(
    context: JobContext, name: str, weights: Sequence[float], adapters: Sequence[AdapterRef]
) -> Fold:
    target = context.setting.target
    try:
        if context.options.cross_terms:
            recipe = fold_weights(
                adapters, weights, target, method="average_factors", options={"split": "full"}
            )
        else:
            recipe = fold_sum(adapters, weights, target)
    except MergeError as error:
        return Fold(Serving("nothing", reason=str(error)))
    return fold_recipe(context, name, recipe, adapters)
