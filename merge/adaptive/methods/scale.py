"""One number: the scale of a whole update, by a short search along it.

The validation loss along the scale is smooth and has one valley in practice; so: a coarse grid of
powers of two, then halving steps in the logarithm beside the best. Not covered: scales far below
1/8 or above 8, and negative ones.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from merge.adaptive.candidates import Candidate
from merge.adaptive.context import AdapterRef, JobContext
from merge.adaptive.methods.fold import fold_recipe, fold_weights
from merge.adaptive.model.stacked import embeddings_of, read_modules
from merge.adaptive.training import LossNotFinite, Progress
from merge.peft_format import open_folder
from merge.recipe import Recipe
from merge.run import merge

COARSE = tuple(2.0**power for power in range(-3, 4))
ROUNDS = 3
EVALUATIONS = len(COARSE) + 2 * ROUNDS


class BestScale(NamedTuple):
    """The best scale, its loss, and all tried ones as (scale, loss) in order."""

    scale: float
    loss: float
    tried: tuple[tuple[float, float], ...]


def search_scale(
    loss: Callable[[float], float], report: Callable[[int, float], None] | None = None
) -> BestScale:
    """Return the tried scale with the lowest finite loss.

    Args:
        loss: of the update times a scale.
        report: called with (evaluations done, the loss of the last).

    Raises:
        LossNotFinite: the loss is NaN or infinite at every coarse scale.
    """
    tried: list[tuple[float, float]] = []

    def attempt(scale: float) -> None:
        tried.append((scale, loss(scale)))
        if report is not None:
            report(len(tried), tried[-1][1])

    for scale in COARSE:
        attempt(scale)
    if not any(math.isfinite(value) for _, value in tried):
        raise LossNotFinite("scale", len(tried), "the loss at every scale", None)
    step = 2.0**0.5
    for _ in range(ROUNDS):
        best = _best(tried)[0]
        attempt(best / step)
        attempt(best * step)
        step **= 0.5
    return BestScale(*_best(tried), tuple(tried))


def _best(tried: list[tuple[float, float]]) -> tuple[float, float]:
    return min((pair for pair in tried if math.isfinite(pair[1])), key=lambda pair: pair[1])


def scale(context: JobContext, name: str, title: str, adapters: Sequence[AdapterRef]) -> Candidate:
    """Search the scale of a static recipe by its validation loss, or take the settled one.

    Raises:
        MergeError: the recipe cannot be merged.
    """
    recipe = _static_recipe(context, adapters)
    out = context.folder / "folded" / f"{name}.unscaled"
    shutil.rmtree(out, ignore_errors=True)
    folders = {adapter.digest: adapter.folder.path for adapter in adapters}
    report = merge(recipe, folders, out, norm_limit=context.setting.norm_limit)
    folder = open_folder(out)
    make = context.weighted([read_modules(folder)], embeddings_of([folder]))
    shutil.rmtree(out)

    def loss(factor: float) -> float:
        return context.scorer.losses(make([factor]), context.validation).mean

    def report_progress(done: int, value: float) -> None:
        context.watch(Progress(name, done, EVALUATIONS, None, value))

    if context.settled is not None:
        best = BestScale(context.settled.scales[name], math.nan, ())
    else:
        best = search_scale(loss, report_progress)
    scored = context.scorer.score(make([best.scale]), context.tests)
    # For scale=match the report has the factor; the search was on top of it.
    options = dict(recipe.options) | {"scale": report.scale * best.scale}
    scaled = replace(recipe, options=tuple(sorted(options.items())))
    fold = fold_recipe(context, name, scaled, adapters)
    detail = {
        "scale": report.scale * best.scale, "factor": best.scale,
        "tried": [list(pair) for pair in best.tried],
    }  # fmt: skip
    return Candidate(
        name, title, scored, fold.serving, folded=fold.scored, energy=fold.energy,
        members=tuple(adapter.reference for adapter in adapters), detail=detail,
        choice_loss=None if context.settled else best.loss,
    )  # fmt: skip


def _static_recipe(context: JobContext, adapters: Sequence[AdapterRef]) -> Recipe:
    options = context.options
    if options.recipe is None:
        return fold_weights(
            adapters, [1.0] * len(adapters), context.setting.target, method=options.static,
            options=options.static_options,
        )  # fmt: skip
    return Recipe.parse(options.recipe)
