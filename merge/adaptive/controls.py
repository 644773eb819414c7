"""The reality check: what a method's result must be compared with before anybody believes in it.

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
from merge.adaptive.model.stacked import embeddings_of, read_modules
from merge.adaptive.noise import redrawn
from merge.adaptive.pool import MemberScore
from merge.adaptive.training import Schedule

DROPOUT = 0.5  # of the regularised control (arXiv 2602.12323, figure 4)


def base(context: JobContext) -> Candidate:
    """The base without anything."""
    scored = context.scorer.score(None, context.validation)
    return Candidate("base", "the base alone", scored, Serving("base"))


def fresh_lora(context: JobContext, name: str, title: str, dropout: float) -> Candidate:
    """A LoRA trained from nothing on the training examples."""
    options = context.options
    plan = FreshPlan(
        rank=context.fresh_rank, alpha=options.fresh_alpha, dropout=dropout, seed=options.seed
    )
    updates = Fresh(linear_widths(context.model), plan)
    trained = train(context, name, updates, fresh_schedule(context))
    scored = context.scorer.score(updates, context.validation)
    written = context.adapter(name, updates.modules_now(), {})
    folded = context.scorer.score(context.updates(written.folder), context.validation)
    return Candidate(
        name, title, scored, Serving("adapter", folder=f"{CANDIDATES}/{name}"), folded=folded,
        best_step=trained.best_step, curve=trained.curve,
    )  # fmt: skip


def fresh_schedule(context: JobContext) -> Schedule:
    """Return how a fresh LoRA is trained."""
    options = context.options
    return Schedule(
        steps=options.fresh_steps, learning_rate=options.fresh_learning_rate,
        batch_size=options.batch_size, warm_up=options.warm_up,
        evaluate_every=options.evaluate_every, seed=options.seed,
    )  # fmt: skip


def best_single(
    context: JobContext, adapters: Sequence[AdapterRef], scores: Mapping[str, MemberScore]
) -> Candidate:
    """The member that alone does best on the training examples."""
    best = min(adapters, key=lambda h: (-scores[h.digest].accuracy, scores[h.digest].loss))
    scored = context.scorer.score(context.updates(best.folder), context.validation)
    fold = fold_recipe(
        context, "best_single", fold_sum([best], [1.0], context.setting.target), [best]
    )
    return Candidate(
        "best_single", "the best single member, as it is", scored, fold.serving,
        folded=fold.scored, energy=fold.energy, members=(best.reference,),
    )  # fmt: skip


def average(context: JobContext, adapters: Sequence[AdapterRef]) -> Candidate:
    """The plain average of the members' updates; a member adds nothing to modules it lacks."""
    modules = [read_modules(adapter.folder) for adapter in adapters]
    folders = [adapter.folder for adapter in adapters]
    even = [1 / len(adapters)] * len(adapters)
    updates = context.weighted(modules, embeddings_of(folders))(even)
    scored = context.scorer.score(updates, context.validation)
    fold = fold_recipe(
        context, "average", fold_sum(adapters, even, context.setting.target), adapters
    )
    return Candidate(
        "average", "the average of the members", scored, fold.serving, folded=fold.scored,
        energy=fold.energy, members=tuple(adapter.reference for adapter in adapters),
    )  # fmt: skip


def random_parameters(
    context: JobContext, adapters: Sequence[AdapterRef], fresh: AdapterRef | None
) -> Candidate:
    """What the method learns over members without content; the target LoRA keeps its own."""
    seed = context.options.seed
    noise = [
        redrawn(read_modules(adapter.folder), seed=seed, name=adapter.digest)
        for adapter in adapters
    ]
    first = [] if fresh is None else [fresh]
    over = Ingredients(
        [*first, *adapters],
        [*(read_modules(adapter.folder) for adapter in first), *noise],
        is_noise=True,
    )
    title = "the same, over members redrawn at random"
    return learn(context, "random_parameters", title, over)


def fresh_retuned(context: JobContext, fresh: AdapterRef) -> Candidate:
    """The fresh LoRA alone, with coefficients of its own: the merge without a pool."""
    title = "the fresh LoRA, its own coefficients tuned"
    return recycle(context, "fresh_lora_retuned", title, Ingredients.of([fresh]))


def controls(
    context: JobContext,
    adapters: Sequence[AdapterRef],
    scores: Mapping[str, MemberScore],
    fresh: AdapterRef,
    *,
    targeted: bool,
) -> dict[str, Callable[[], Candidate]]:
    """Return what makes each control, by name, but for the base and the fresh LoRA themselves."""
    found: dict[str, Callable[[], Candidate]] = {
        "fresh_lora_dropout": lambda: fresh_lora(
            context, "fresh_lora_dropout", f"a fresh LoRA, dropout {DROPOUT}", DROPOUT
        ),
        "fresh_lora_retuned": lambda: fresh_retuned(context, fresh),
    }
    if adapters:
        found["best_single"] = lambda: best_single(context, adapters, scores)
        found["average"] = lambda: average(context, adapters)
        if context.options.method != "scale":
            found["random_parameters"] = lambda: random_parameters(
                context, adapters, fresh if targeted else None
            )
    return found
