"""The reality check: what a method's result must be compared with before anybody believes in it.

All on the same split: the base, the best single member, the plain average, the same learning over
adapters without content, a LoRA freshly trained on the same examples (once more with dropout 0.5),
and that LoRA with its own coefficients tuned again, which arXiv 2602.12323 lacks.
"""

from collections.abc import Callable, Mapping, Sequence

from merge.adaptive.candidates import Candidate, Serving
from merge.adaptive.context import CANDIDATES, Desk, Held, train
from merge.adaptive.methods.fold import Ingredients, fold_recipe, fold_sum
from merge.adaptive.methods.learn import learn
from merge.adaptive.methods.recycle import recycle
from merge.adaptive.model.fresh_lora import Fresh, FreshPlan, linear_widths
from merge.adaptive.model.stacked import embeddings_of, read_modules
from merge.adaptive.noise import redrawn
from merge.adaptive.pool import MemberScore
from merge.adaptive.training import Schedule

DROPOUT = 0.5  # of the regularised control (arXiv 2602.12323, figure 4)


def base(desk: Desk) -> Candidate:
    """The base without anything."""
    scored = desk.scorer.score(None, desk.validation)
    return Candidate("base", "the base alone", scored, Serving("base"))


def fresh_lora(desk: Desk, name: str, title: str, dropout: float) -> Candidate:
    """A LoRA trained from nothing on the training examples."""
    options = desk.options
    plan = FreshPlan(
        rank=desk.fresh_rank, alpha=options.fresh_alpha, dropout=dropout, seed=options.seed
    )
    updates = Fresh(linear_widths(desk.model), plan)
    trained = train(desk, name, updates, fresh_schedule(desk))
    scored = desk.scorer.score(updates, desk.validation)
    written = desk.adapter(name, updates.modules_now(), {})
    folded = desk.scorer.score(desk.updates(written.folder), desk.validation)
    return Candidate(
        name, title, scored, Serving("adapter", folder=f"{CANDIDATES}/{name}"), folded=folded,
        best_step=trained.best_step, curve=trained.curve,
    )  # fmt: skip


def fresh_schedule(desk: Desk) -> Schedule:
    """Return how a fresh LoRA is trained."""
    options = desk.options
    return Schedule(
        steps=options.fresh_steps, learning_rate=options.fresh_learning_rate,
        batch_size=options.batch_size, warm_up=options.warm_up,
        evaluate_every=options.evaluate_every, seed=options.seed,
    )  # fmt: skip


def best_single(desk: Desk, held: Sequence[Held], scores: Mapping[str, MemberScore]) -> Candidate:
    """The member that alone does best on the training examples."""
    best = min(held, key=lambda h: (-scores[h.digest].accuracy, scores[h.digest].loss))
    scored = desk.scorer.score(desk.updates(best.folder), desk.validation)
    fold = fold_recipe(desk, "best_single", fold_sum([best], [1.0], desk.setting.target), [best])
    return Candidate(
        "best_single", "the best single member, as it is", scored, fold.serving,
        folded=fold.scored, energy=fold.energy, members=(best.reference,),
    )  # fmt: skip


def average(desk: Desk, held: Sequence[Held]) -> Candidate:
    """The plain average of the members' updates; a member adds nothing to modules it lacks."""
    modules = [read_modules(each.folder) for each in held]
    folders = [each.folder for each in held]
    even = [1 / len(held)] * len(held)
    updates = desk.weighted(modules, embeddings_of(folders))(even)
    scored = desk.scorer.score(updates, desk.validation)
    fold = fold_recipe(desk, "average", fold_sum(held, even, desk.setting.target), held)
    return Candidate(
        "average", "the average of the members", scored, fold.serving, folded=fold.scored,
        energy=fold.energy, members=tuple(each.reference for each in held),
    )  # fmt: skip


def random_parameters(desk: Desk, held: Sequence[Held], fresh: Held | None) -> Candidate:
    """What the method learns over members without content; the target LoRA keeps its own."""
    seed = desk.options.seed
    noise = [redrawn(read_modules(each.folder), seed=seed, name=each.digest) for each in held]
    first = [] if fresh is None else [fresh]
    over = Ingredients(
        [*first, *held], [*(read_modules(each.folder) for each in first), *noise], is_noise=True
    )
    title = "the same, over members redrawn at random"
    return learn(desk, "random_parameters", title, over)


def fresh_retuned(desk: Desk, fresh: Held) -> Candidate:
    """The fresh LoRA alone, with coefficients of its own: the merge without a pool."""
    title = "the fresh LoRA, its own coefficients tuned"
    return recycle(desk, "fresh_lora_retuned", title, Ingredients.of([fresh]))


def controls(
    desk: Desk,
    held: Sequence[Held],
    scores: Mapping[str, MemberScore],
    fresh: Held,
    *,
    targeted: bool,
) -> dict[str, Callable[[], Candidate]]:
    """Return what makes each control, by name, but for the base and the fresh LoRA themselves."""
    found: dict[str, Callable[[], Candidate]] = {
        "fresh_lora_dropout": lambda: fresh_lora(
            desk, "fresh_lora_dropout", f"a fresh LoRA, dropout {DROPOUT}", DROPOUT
        ),
        "fresh_lora_retuned": lambda: fresh_retuned(desk, fresh),
    }
    if held:
        found["best_single"] = lambda: best_single(desk, held, scores)
        found["average"] = lambda: average(desk, held)
        if desk.options.method != "scale":
            found["random_parameters"] = lambda: random_parameters(
                desk, held, fresh if targeted else None
            )
    return found
