"""Recycle (arXiv 2602.12323): frozen LoRAs, one learned coefficient per adapter and module."""

from collections.abc import Sequence

from merge.adaptive.candidates import Candidate, Serving
from merge.adaptive.context import CANDIDATES, AdapterRef, JobContext, train
from merge.adaptive.methods.fold import (
    NOT_SERVABLE,
    Fold,
    Ingredients,
    fold_gates,
    fold_recipe,
    fold_table,
)
from merge.adaptive.model.coefficients import Coefficients, Gated
from merge.adaptive.model.stacked import stack
from merge.adaptive.training import Schedule
from merge.errors import MergeError


def schedule_of(context: JobContext) -> Schedule:
    """Return the training schedule of coefficients."""
    options = context.options
    return Schedule(
        steps=options.steps, learning_rate=options.learning_rate, batch_size=options.batch_size,
        warm_up=options.warm_up, evaluate_every=options.evaluate_every, l1=options.l1,
        seed=options.seed,
    )  # fmt: skip


def recycle(context: JobContext, name: str, title: str, over: Ingredients) -> Candidate:
    """Train one coefficient per adapter and module, or as the options' design says."""
    layers, layout = stack(over.modules, embeddings=over.embeddings)
    updates = Gated(layers, Coefficients(layout, context.options.design))
    trained = train(context, name, updates, schedule_of(context))
    scored = context.scorer.score(updates, context.tests)
    fold = NOT_SERVABLE if over.is_noise else _fold_gated(context, name, updates, over.adapters)
    return Candidate(
        name, title, scored, fold.serving, folded=fold.scored, energy=fold.energy,
        best_step=trained.best_step, curve=trained.curve, members=over.references,
        choice_loss=trained.best_loss,
    )  # fmt: skip


def _fold_gated(
    context: JobContext, name: str, updates: Gated, adapters: Sequence[AdapterRef]
) -> Fold:
    if context.options.granularity != "rank":
        table = updates.coefficients.table()
        try:
            return fold_recipe(
                context, name, fold_table(adapters, table, context.setting.target), adapters
            )
        except MergeError as error:
            return Fold(Serving("nothing", reason=str(error)))
    updates.prepare()
    modules, energy = fold_gates(updates.gated(), context.setting.rank_limit)
    kinds = {m.name: m.kind for adapter in adapters for m in adapter.folder.modules.values()}
    written = context.adapter(name, modules, kinds)
    scored = context.scorer.score(context.updates(written.folder), context.tests)
    return Fold(Serving("adapter", folder=f"{CANDIDATES}/{name}"), scored, energy)
