"""The controls: candidates that a method's result must beat before it is worth serving.

All on the same split: the base, the best single member, the plain average, the same learning over
adapters without content, a LoRA freshly trained on the same examples (once more with dropout 0.5),
and that LoRA with its own coefficients tuned again, which arXiv 2602.12323 lacks.
"""

from collections.abc import Callable, Mapping, Sequence

from merge.adaptive.candidates import Candidate, Serving
from merge.adaptive.context import CANDIDATES, AdapterRef, JobContext, train
from merge.adaptive.methods.fold import Ingredients, fold_recipe, fold_sum
from merge.adaptive.methods.learn import learn
from merge.adaptive.methods.recycle import recycle
from merge.adaptive.model.fresh_lora import Fresh, FreshPlan, linear_widths
from merge.adaptive.model.stacked import Modules, OnDemand, embeddings_of, read_modules
from merge.adaptive.pool import MemberScore
from merge.adaptive.training import Schedule
from merge.methods.random_factors import redrawn
from merge.seeds import generator_for

DROPOUT = 0.5  # of the regularised control (arXiv 2602.12323, figure 4)


def base(context: JobContext) -> Candidate:
    """Score the base without any adapter."""
    scored = context.scorer.score(None, context.tests)
    return Candidate("base", "the base alone", scored, Serving("base"))


def fresh_lora(context: JobContext, name: str, title: str, dropout: float) -> Candidate:
    """Train a new LoRA on the training examples, write it and score it."""
    options = context.options
    plan = FreshPlan(
        rank=context.fresh_rank, alpha=options.fresh_alpha, dropout=dropout, seed=options.seed
    )
    updates = Fresh(linear_widths(context.model), plan)
    trained = train(context, name, updates, fresh_schedule(context))
    scored = context.scorer.score(updates, context.tests)
    # The files are in the output dtype, so they are scored again: rounding is part of the figure.
    written = context.adapter(name, updates.modules_now(), {})
    folded = context.scorer.score(context.updates(written.folder), context.tests)
    return Candidate(
        name, title, scored, Serving("adapter", folder=f"{CANDIDATES}/{name}"), folded=folded,
        best_step=trained.best_step, curve=trained.curve,
    )  # fmt: skip


def fresh_schedule(context: JobContext) -> Schedule:
    """Return the training schedule of a fresh LoRA."""
    options = context.options
    return Schedule(
        steps=options.fresh_steps, learning_rate=options.fresh_learning_rate,
        batch_size=options.batch_size, warm_up=options.warm_up,
        evaluate_every=options.evaluate_every, seed=options.seed,
    )  # fmt: skip


def best_single(
    context: JobContext, adapters: Sequence[AdapterRef], scores: Mapping[str, MemberScore]
) -> Candidate:
    """Score the member that does best alone on the examples that do not measure."""
    best = min(
        adapters,
        key=lambda adapter: (-scores[adapter.digest].accuracy, scores[adapter.digest].loss),
    )
    scored = context.scorer.score(context.updates(best.folder), context.tests)
    recipe = fold_sum([best], [1.0], context.setting.target)
    fold = fold_recipe(context, "best_single", recipe, [best])
    return Candidate(
        "best_single", "the best single member, as it is", scored, fold.serving,
        folded=fold.scored, energy=fold.energy, members=(best.reference,),
    )  # fmt: skip


def average(context: JobContext, adapters: Sequence[AdapterRef]) -> Candidate:
    """Score the plain average of the members' updates; a member is zero in modules it lacks."""
    modules = [read_modules(adapter.folder) for adapter in adapters]
    folders = [adapter.folder for adapter in adapters]
    shares = [1 / len(adapters)] * len(adapters)
    updates = context.weighted(modules, embeddings_of(folders))(shares)
    scored = context.scorer.score(updates, context.tests)
    recipe = fold_sum(adapters, shares, context.setting.target)
    fold = fold_recipe(context, "average", recipe, adapters)
    return Candidate(
        "average", "the average of the members", scored, fold.serving, folded=fold.scored,
        energy=fold.energy, members=tuple(adapter.reference for adapter in adapters),
    )  # fmt: skip


def random_parameters(
    context: JobContext, name: str, adapters: Sequence[AdapterRef], fresh: AdapterRef | None
) -> Candidate:
    """Learn as the method does, over members redrawn at random; the fresh LoRA is not redrawn."""
    seed = context.options.seed
    noise = [
        redrawn_adapter(read_modules(adapter.folder), seed=seed, name=adapter.digest)
        for adapter in adapters
    ]
    first = [] if fresh is None else [fresh]
    over = Ingredients(
        [*first, *adapters],
        [*(read_modules(adapter.folder) for adapter in first), *noise],
        is_noise=True,
    )
    title = "the same, over members redrawn at random"
    return learn(context, name, title, over)


def redrawn_adapter(modules: Modules, *, seed: int, name: str) -> Modules:
    """Return an adapter of noise with the shapes, scales and deviations of `modules`.

    The control of arXiv 2602.12323 ("random parameters"); see `merge.methods.random_factors`.

    Args:
        modules: factors by module.
        seed: of the draws, together with `name` and the module's name.
        name: makes the draws of one adapter differ from those of another.
    """
    # A generator per module: modules are read on demand, in any order and more than once.
    return OnDemand(
        modules, lambda module: redrawn(modules[module], generator_for(seed, f"{name}/{module}"))
    )


def fresh_retuned(context: JobContext, fresh: AdapterRef) -> Candidate:
    """Tune coefficients on the fresh LoRA alone: the merge without a pool."""
    title = "the fresh LoRA, its own coefficients tuned"
    return recycle(context, "fresh_lora_retuned", title, Ingredients.of([fresh]))


def controls(
    context: JobContext,
    adapters: Sequence[AdapterRef],
    scores: Mapping[str, MemberScore],
    fresh: AdapterRef,
) -> dict[str, Callable[[], Candidate]]:
    """Return what makes each control, by name.

    The base, the fresh LoRA and the random parameters, of which there is one for each k, are not
    among them.
    """
    makers: dict[str, Callable[[], Candidate]] = {
        "fresh_lora_dropout": lambda: fresh_lora(
            context, "fresh_lora_dropout", f"a fresh LoRA, dropout {DROPOUT}", DROPOUT
        ),
        "fresh_lora_retuned": lambda: fresh_retuned(context, fresh),
    }
    if adapters:
        makers["best_single"] = lambda: best_single(context, adapters, scores)
        makers["average"] = lambda: average(context, adapters)
    return makers
