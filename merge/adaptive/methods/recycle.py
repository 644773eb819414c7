"""Recycle (arXiv 2602.12323): frozen LoRAs, one learned coefficient per adapter and module."""

from collections.abc import Sequence

from merge.adaptive.candidates import Candidate, Serving
from merge.adaptive.context import CANDIDATES, Desk, Held, train
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


def schedule_of(desk: Desk) -> Schedule:
    """Return how coefficients are trained."""
    options = desk.options
    return Schedule(
        steps=options.steps, learning_rate=options.learning_rate, batch_size=options.batch_size,
        warm_up=options.warm_up, evaluate_every=options.evaluate_every, l1=options.l1,
        seed=options.seed,
    )  # fmt: skip


def recycle(desk: Desk, name: str, title: str, over: Ingredients) -> Candidate:
    """One coefficient per adapter and module (or as the options' design says), by gradient."""
    layers, layout = stack(over.modules, embeddings=over.embeddings)
    updates = Gated(layers, Coefficients(layout, desk.options.design))
    trained = train(desk, name, updates, schedule_of(desk))
    scored = desk.scorer.score(updates, desk.validation)
    fold = NOT_SERVABLE if over.is_noise else _fold_gated(desk, name, updates, over.held)
    return Candidate(
        name, title, scored, fold.serving, folded=fold.scored, energy=fold.energy,
        best_step=trained.best_step, curve=trained.curve, members=over.references,
    )  # fmt: skip


def _fold_gated(desk: Desk, name: str, updates: Gated, held: Sequence[Held]) -> Fold:
    if desk.options.granularity != "rank":
        table = updates.coefficients.table()
        try:
            return fold_recipe(desk, name, fold_table(held, table, desk.setting.target), held)
        except MergeError as error:
            return Fold(Serving("nothing", reason=str(error)))
    updates.prepare()
    modules, energy = fold_gates(updates.gated(), desk.setting.rank_limit)
    kinds = {m.name: m.kind for each in held for m in each.folder.modules.values()}
    written = desk.adapter(name, modules, kinds)
    scored = desk.scorer.score(desk.updates(written.folder), desk.validation)
    return Fold(Serving("adapter", folder=f"{CANDIDATES}/{name}"), scored, energy)
