"""The methods themselves: from adapters at hand to a candidate that was learned and measured.

`recycle` (arXiv 2602.12323): frozen LoRAs, coefficients by gradient. `lorahub` (arXiv 2307.13269):
one weight each, without gradients. `scale`: one number on a static recipe. Not covered: which
adapters (`selection`), and what they are compared with (`reality`).
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from merge.adaptive.candidates import Candidate, Serving
from merge.adaptive.context import CANDIDATES, Desk
from merge.adaptive.methods.fold import Held, fold_gates, fold_sum, fold_table, fold_weights
from merge.adaptive.methods.lorahub import Search, search_weights
from merge.adaptive.methods.scale import EVALUATIONS, search_scale
from merge.adaptive.model.coefficients import Coefficients, Gated
from merge.adaptive.model.hooks import Updates
from merge.adaptive.model.stacked import Modules, embeddings_of, read_modules, stack
from merge.adaptive.scoring.scorer import Scored
from merge.adaptive.training import Progress, Run, Schedule, Trained
from merge.errors import MergeError
from merge.factors import Factors, Stack
from merge.methods.average_factors import average_factors
from merge.peft_format import open_folder
from merge.recipe import Recipe
from merge.run import merge


class Ingredients(NamedTuple):
    """Adapters to learn over, and what they are served as; `modules` may differ from the files."""

    held: Sequence[Held]
    modules: Sequence[Modules]  # one for each
    is_noise: bool = False  # the modules are redrawn: nothing that could be served

    @staticmethod
    def of(held: Sequence[Held]) -> "Ingredients":
        """Return adapters as their files have them."""
        return Ingredients(held, [read_modules(each.folder) for each in held])

    @property
    def embeddings(self) -> frozenset[str]:
        """The modules that read token ids."""
        return embeddings_of([each.folder for each in self.held])

    @property
    def references(self) -> tuple[str, ...]:
        """What people call them."""
        return tuple(each.reference for each in self.held)


class Fold(NamedTuple):
    """What became of a candidate as files: how it is served, and how the files do."""

    serving: Serving
    scored: Scored | None = None
    energy: float | None = None


_NOISE = Fold(Serving("nothing", reason="a control without content"))


def learn(desk: Desk, name: str, title: str, over: Ingredients) -> Candidate:
    """Return the candidate that `desk.options.method` learns over the ingredients."""
    return {"recycle": recycle, "lorahub": lorahub}[desk.options.method](desk, name, title, over)


def schedule_of(desk: Desk) -> Schedule:
    """Return how coefficients are trained."""
    options = desk.options
    return Schedule(
        steps=options.steps, learning_rate=options.learning_rate, batch_size=options.batch_size,
        warm_up=options.warm_up, evaluate_every=options.evaluate_every, l1=options.l1,
        seed=options.seed,
    )  # fmt: skip


def train(desk: Desk, name: str, updates: Updates, schedule: Schedule) -> Trained:
    """Train what is trainable in `updates`, from its checkpoint if there is one."""
    run = Run(
        stage=name, model=desk.model, updates=updates, train=desk.train,
        validation=desk.validation, schedule=schedule, watch=desk.watch,
        checkpoint=checkpoint_of(desk, name),
    )  # fmt: skip
    return run()


def checkpoint_of(desk: Desk, name: str) -> Path:
    """Return where a stage keeps how far it got."""
    path = desk.folder / "checkpoints" / f"{name}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def recycle(desk: Desk, name: str, title: str, over: Ingredients) -> Candidate:
    """One coefficient per adapter and module (or as the options' design says), by gradient."""
    layers, layout = stack(over.modules, embeddings=over.embeddings)
    updates = Gated(layers, Coefficients(layout, desk.options.design))
    trained = train(desk, name, updates, schedule_of(desk))
    scored = desk.scorer.score(updates, desk.validation)
    fold = _NOISE if over.is_noise else _fold_gated(desk, name, updates, over.held)
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


def fold_recipe(desk: Desk, name: str, recipe: Recipe, held: Sequence[Held]) -> Fold:
    """Merge a recipe as the server will, and score the files that come of it."""
    out = desk.folder / "folded" / name
    shutil.rmtree(out, ignore_errors=True)
    try:
        folders = {each.digest: each.folder.path for each in held}
        report = merge(recipe, folders, out, norm_limit=desk.setting.norm_limit)
        scored = desk.scorer.score(desk.updates(open_folder(out)), desk.validation)
    except MergeError as error:
        return Fold(Serving("nothing", reason=str(error)))
    finally:
        shutil.rmtree(out, ignore_errors=True)
    used = {item.digest for item in recipe.ingredients}
    own = {each.digest: desk.own_folder(each) for each in held if each.digest in used}
    adapters = {digest: folder for digest, folder in own.items() if folder is not None}
    serving = Serving("recipe", recipe=recipe.canonical(), adapters=adapters)
    return Fold(serving, scored, report.overall.energy)


def lorahub(desk: Desk, name: str, title: str, over: Ingredients) -> Candidate:
    """One weight per adapter, by NGOpt on the training loss."""
    options = desk.options
    make = (
        _with_cross_terms(desk, over)
        if options.cross_terms
        else desk.weighted(over.modules, over.embeddings)
    )

    def loss(weights: Sequence[float]) -> float:
        return desk.scorer.losses(make(weights), desk.train).mean

    def told(done: int, value: float) -> None:
        desk.watch(Progress(name, done, options.budget, value))

    search = Search(len(over.held), options.budget, options.bound, options.seed)
    history = checkpoint_of(desk, name).with_suffix(".jsonl")
    weights = search_weights(search, loss, history=history, told=told)
    scored = desk.scorer.score(make(weights), desk.validation)
    fold = _NOISE if over.is_noise else _fold_weighted(desk, name, weights, over.held)
    return Candidate(
        name, title, scored, fold.serving, folded=fold.scored, energy=fold.energy,
        members=over.references, detail={"weights": list(weights)},
    )  # fmt: skip


def _with_cross_terms(desk: Desk, over: Ingredients) -> Callable[[Sequence[float]], Updates]:
    """Return what makes (Σ w √s B)(Σ w √s A) of weights: the original's, for equal ranks."""
    adapters = [dict(modules) for modules in over.modules]  # read once
    names = sorted({name for modules in adapters for name in modules})

    def make(weights: Sequence[float]) -> Updates:
        merged: dict[str, Factors] = {}
        for name in names:
            held = [at for at, modules in enumerate(adapters) if name in modules]
            members = tuple(adapters[at][name] for at in held)
            stacked = Stack(name, members, tuple(weights[at] for at in held))
            merged[name] = average_factors(stacked, split="full").factors
        return desk.weighted([merged], over.embeddings)([1.0])

    return make


def _fold_weighted(desk: Desk, name: str, weights: Sequence[float], held: Sequence[Held]) -> Fold:
    target = desk.setting.target
    try:
        if desk.options.cross_terms:
            recipe = fold_weights(
                held, weights, target, method="average_factors", options={"split": "full"}
            )
        else:
            recipe = fold_sum(held, weights, target)
    except MergeError as error:
        return Fold(Serving("nothing", reason=str(error)))
    return fold_recipe(desk, name, recipe, held)


def scale(desk: Desk, name: str, title: str, held: Sequence[Held]) -> Candidate:
    """One number on a static recipe, by a line search on the validation loss.

    Raises:
        MergeError: the recipe cannot be merged.
    """
    recipe = _static_recipe(desk, held)
    out = desk.folder / "folded" / f"{name}.unscaled"
    shutil.rmtree(out, ignore_errors=True)
    folders = {each.digest: each.folder.path for each in held}
    report = merge(recipe, folders, out, norm_limit=desk.setting.norm_limit)
    folder = open_folder(out)
    make = desk.weighted([read_modules(folder)], embeddings_of([folder]))
    shutil.rmtree(out)

    def loss(factor: float) -> float:
        return desk.scorer.losses(make([factor]), desk.validation).mean

    def told(done: int, value: float) -> None:
        desk.watch(Progress(name, done, EVALUATIONS, None, value))

    found = search_scale(loss, told)
    scored = desk.scorer.score(make([found.scale]), desk.validation)
    # Where the recipe says `match`, the report knows the factor that this came to.
    options = dict(recipe.options) | {"scale": report.scale * found.scale}
    scaled = replace(recipe, options=tuple(sorted(options.items())))
    fold = fold_recipe(desk, name, scaled, held)
    detail = {"scale": report.scale * found.scale, "tried": [list(pair) for pair in found.tried]}
    return Candidate(
        name, title, scored, fold.serving, folded=fold.scored, energy=fold.energy,
        members=tuple(each.reference for each in held), detail=detail,
    )  # fmt: skip


def _static_recipe(desk: Desk, held: Sequence[Held]) -> Recipe:
    options = desk.options
    if options.recipe is None:
        return fold_weights(
            held, [1.0] * len(held), desk.setting.target, method=options.static,
            options=options.static_options,
        )  # fmt: skip
    return Recipe.parse(options.recipe)
