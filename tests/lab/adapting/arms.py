"""Arms: the ways to learn that are compared, each on one bench with one task's examples.

Covered: what each one merges, made of the pieces of `merge.adaptive`. Not covered: on which tasks
and with how many examples (`design.py`), what stays the same (`measure.py`).
"""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from merge.adaptive import controls as reality
from merge.adaptive.candidates import Candidate
from merge.adaptive.context import AdapterRef, JobContext
from merge.adaptive.methods.fold import Ingredients
from merge.adaptive.methods.lorahub import lorahub
from merge.adaptive.methods.recycle import recycle
from merge.adaptive.methods.scale import scale
from merge.adaptive.options import Selection
from merge.adaptive.pool import MemberScore, PoolMember
from tests.lab.adapting.pool import Pool, Skilled

Among: TypeAlias = Callable[[Pool, Skilled], list[PoolMember]]


class Place(Protocol):
    """One task's examples with what is known of the pool on them."""

    def chosen(self, k: int, among: Among, how: Selection) -> list[AdapterRef]:
        """Return k members of a part of the pool, best first."""
        ...

    def scores(self) -> dict[str, MemberScore]:
        """Return how every member of the pool does alone on the training examples, by digest."""
        ...

    def fresh_lora(self) -> Candidate:
        """Return the LoRA that was trained on the same examples, measured; trained once."""
        ...

    def fresh(self) -> AdapterRef:
        """Return the same as an adapter to merge."""
        ...


Make: TypeAlias = Callable[[Place, JobContext], Candidate]
K = 10  # adapters merged, the target included, unless an arm says otherwise


def base(_place: Place, context: JobContext) -> Candidate:
    """The base alone."""
    return reality.base(context)


def best_single(place: Place, context: JobContext) -> Candidate:
    """The member that does best on the training examples."""
    return reality.best_single(
        context, place.chosen(K, Pool.everyone, "evaluation"), place.scores()
    )


def average(place: Place, context: JobContext) -> Candidate:
    """The plain average of the chosen."""
    return reality.average(context, place.chosen(K, Pool.everyone, "evaluation"))


def scaled(place: Place, context: JobContext) -> Candidate:
    """Their average at its best scale."""
    return scale(context, "scale", "", place.chosen(K, Pool.everyone, "evaluation"))


def fresh_lora(place: Place, _context: JobContext) -> Candidate:
    """A LoRA trained from nothing."""
    return place.fresh_lora()


def fresh_lora_dropout(_place: Place, context: JobContext) -> Candidate:
    """A fresh LoRA with more dropout."""
    return reality.fresh_lora(context, "fresh_lora_dropout", "", reality.DROPOUT)


def fresh_lora_retuned(place: Place, context: JobContext) -> Candidate:
    """The fresh LoRA with its own coefficients tuned."""
    return reality.fresh_retuned(context, place.fresh())


def lorahub_over(*, target: bool) -> Make:
    """Return LoraHub over K adapters."""

    def make(place: Place, context: JobContext) -> Candidate:
        first = [place.fresh()] if target else []
        adapters = place.chosen(K - len(first), Pool.everyone, "evaluation")
        return lorahub(context, "lorahub", "", Ingredients.of([*first, *adapters]))

    return make


def recycled(
    k: int = K,
    *,
    target: bool = False,
    among: Among = Pool.everyone,
    how: Selection = "evaluation",
) -> Make:
    """Return `recycle` over k adapters."""

    def make(place: Place, context: JobContext) -> Candidate:
        first = [place.fresh()] if target else []
        adapters = place.chosen(k - len(first), among, how)
        return recycle(context, "recycle", "", Ingredients.of([*first, *adapters]))

    return make


def random_parameters(*, target: bool) -> Make:
    """Return `recycle` over K adapters redrawn at random, the target excepted."""

    def make(place: Place, context: JobContext) -> Candidate:
        fresh = place.fresh() if target else None
        adapters = place.chosen(K - (1 if target else 0), Pool.everyone, "evaluation")
        return reality.random_parameters(context, "random_parameters", adapters, fresh)

    return make
