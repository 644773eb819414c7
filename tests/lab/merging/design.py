"""Which merges are measured: methods with their options, adapter seeds, subsets, ranks.

Three orders of the eight tasks are drawn once; the subset of size n is the first n of an order, so
that subsets grow by adding. Every order is used with every adapter seed.

Covered: the list of wanted cells of each study. Not covered: measuring them (`measure.py`).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from merge.methods import METHODS
from tests.lab.language import TASKS
from tests.lab.merging.adapters import ADAPTER_SEEDS
from tests.lab.train_adapters import PLANS

ORDERS = tuple(tuple(Random(f"order/{i}").sample(list(TASKS), len(TASKS))) for i in range(3))
TABLE_SIZES = (3, 5, 8)
GROWING_SIZES = (2, 3, 4, 5, 6, 8)
SHARES = (1, 2, 4, 8)  # of one adapter's rank, what pruning leaves is 1/share
COMMON_RANK = 8  # what six of the eight adapters have
SAME_RANK = tuple(task for task, plan in PLANS.items() if plan.rank == COMMON_RANK)
SAME_RANK_SIZES = (2, 4)
# The variants whose paper's claims are looked at: as published, and with weft's options.
LEGO, LEGO_CANONICAL = "lego, k=8", "lego, k=8, canonical balanced"
BASELINE = "average"  # what the summary compares with: at its best scale, the plain sum


@dataclass(frozen=True, slots=True)
class Variant:
    """A method with options, under the name that tables give it."""

    label: str
    method: str
    options: Mapping[str, object] = field(default_factory=dict)
    sizes: tuple[int, ...] = TABLE_SIZES


RANK_8: dict[str, object] = {"rank": COMMON_RANK}
KNOTS: dict[str, object] = {"basis": "knots"}
# LEGO on units that do not depend on how an update was factored.
UNITS: dict[str, object] = {"canonical": True, "balance": True}

MERGES = (
    Variant("sum (cat)", "cat", sizes=GROWING_SIZES),
    Variant(BASELINE, "average", sizes=GROWING_SIZES),
    Variant("linear, rank 8", "linear", RANK_8, GROWING_SIZES),
    Variant(LEGO, "lego", RANK_8, GROWING_SIZES),
    Variant(LEGO_CANONICAL, "lego", RANK_8 | UNITS, GROWING_SIZES),
    Variant("ties", "ties", sizes=GROWING_SIZES),
    Variant("ties, rank 8", "ties", RANK_8, GROWING_SIZES),
    Variant("ties in knots", "ties", KNOTS, GROWING_SIZES),
    Variant("ties in knots, rank 8", "ties", RANK_8 | KNOTS, GROWING_SIZES),
    Variant("linear, rank 16", "linear", {"rank": 16}),
    Variant("lego, k=16", "lego", {"rank": 16}),
    Variant("slerp", "slerp", sizes=(2,)),
    Variant("karcher", "karcher"),
    Variant("model_stock", "model_stock"),
    Variant("ties in core", "ties", {"basis": "core"}),
    Variant("dare_linear", "dare_linear"),
    Variant("dare_ties", "dare_ties"),
    Variant("della", "della"),
    Variant("breadcrumbs", "breadcrumbs"),
    Variant("magnitude_prune", "magnitude_prune"),
    Variant("sce", "sce"),
    Variant("tsv", "tsv"),
    Variant("iso_c", "iso_c"),
    Variant("ctm", "ctm"),
    Variant("pico", "pico"),
    Variant("actmat", "actmat"),
    Variant("random", "random"),
)
# Among adapters of one rank, which `average_factors` needs.
SAME_RANK_MERGES = (
    Variant("average_factors", "average_factors", {}, SAME_RANK_SIZES),  # any split: weights are 1
    Variant(BASELINE, "average", {}, SAME_RANK_SIZES),
    Variant("linear, rank 8", "linear", RANK_8, SAME_RANK_SIZES),
    Variant(LEGO, "lego", RANK_8, SAME_RANK_SIZES),
)
PRUNINGS = (
    Variant("compress (SVD)", "compress"),
    Variant("lego", "lego"),
    Variant("lego, balanced", "lego", {"balance": True}),
    Variant("lego, canonical balanced", "lego", UNITS),
)


class Wanted(NamedTuple):
    """One cell: what is merged, and how."""

    variant: Variant
    seed: int  # of the adapters
    order: int  # which of ORDERS the subset comes from; the task's own number when pruning
    tasks: tuple[str, ...]
    rank: int | None = None  # given when pruning
    share: int = 1

    @property
    def options(self) -> dict[str, object]:
        """The variant's options; what draws at random is seeded like the adapters."""
        options = dict(self.variant.options)
        if self.rank is not None:
            options["rank"] = self.rank
        if "seed" in METHODS[self.variant.method].parameters:
            options["seed"] = self.seed
        return options


def subset(order: int, size: int, among: Collection[str] = tuple(TASKS)) -> tuple[str, ...]:
    """The first tasks of an order that are `among`, listed as TASKS does: one set, one recipe."""
    chosen = [task for task in ORDERS[order] if task in among][:size]
    return tuple(task for task in TASKS if task in chosen)


def merges(variants: Sequence[Variant], among: Collection[str]) -> Iterator[Wanted]:
    """Merges of several of these adapters, variant by variant: a stopped run leaves whole ones."""
    for variant in variants:
        for seed in ADAPTER_SEEDS:
            for order in range(len(ORDERS)):
                for size in variant.sizes:
                    yield Wanted(variant, seed, order, subset(order, size, among))


def prunings() -> Iterator[Wanted]:
    """Every adapter alone, brought to a share of its rank that is at least 1."""
    for variant in PRUNINGS:
        for seed in ADAPTER_SEEDS:
            for number, (task, plan) in enumerate(PLANS.items()):
                for share in SHARES:
                    if plan.rank >= share:
                        yield Wanted(variant, seed, number, (task,), plan.rank // share, share)
