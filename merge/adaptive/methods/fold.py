"""From coefficients to what can be served: a recipe, or where none can say it, an adapter.

One number per member and module is a recipe: the exact `cat` while its rank fits the engine, else
`linear` brought to the engine's limit, whose report tells the energy kept. One number per rank is
no recipe of members: the gates go into the factors.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from merge.adaptive.model.stacked import GatedLayer
from merge.factors import Factors, gram_of_rows
from merge.linalg import truncated_sum
from merge.peft_format import AdapterFolder
from merge.recipe import Member, Recipe, plan

Table = Mapping[str, Sequence[float]]  # by module: a number for each member


class Held(NamedTuple):
    """An adapter at hand: what people call it, its digest, its opened folder."""

    reference: str
    digest: str
    folder: AdapterFolder


class Target(NamedTuple):
    """What a folded artifact must be: its base by name, its dtype, the engine's largest rank."""

    base: str
    dtype: str
    rank_limit: int


def fold_table(held: Sequence[Held], table: Table, target: Target) -> Recipe:
    """Return the recipe of Σ coefficient · update.

    Args:
        held: the members, in the table's order.
        table: by module, (K,) coefficients; 0 leaves a member out there.
        target: of the artifact.

    Raises:
        RecipeInvalid: every coefficient is 0: nothing was learned.
        IncompatibleAdapters: shapes differ.
    """
    members = [_member(each, at, table, target.base) for at, each in enumerate(held)]
    highest = max(
        sum(m.modules[name].rank for m in members if name in m.modules and m.weight_in(name))
        for name in table
    )
    fits = highest <= target.rank_limit
    return plan(
        "cat" if fits else "linear",
        members,
        options={} if fits else {"rank": target.rank_limit},
        base=target.base,
        dtype=target.dtype,
        rank_limit=target.rank_limit,
    )


def fold_sum(held: Sequence[Held], weights: Sequence[float], target: Target) -> Recipe:
    """Return the recipe of Σ weight · update. Raises as `fold_table`."""
    names = sorted({name for each in held for name in each.folder.modules})
    return fold_table(held, dict.fromkeys(names, weights), target)


def fold_weights(
    held: Sequence[Held],
    weights: Sequence[float],
    target: Target,
    *,
    method: str,
    options: Mapping[str, object],
) -> Recipe:
    """Return the recipe of a method with one weight per member. Raises as `merge.recipe.plan`."""
    members = [
        Member.from_folder(each.reference, each.folder, weight, each.digest, base=target.base)
        for each, weight in zip(held, weights, strict=True)
    ]
    return plan(
        method,
        members,
        options=options,
        base=target.base,
        dtype=target.dtype,
        rank_limit=target.rank_limit,
    )


@torch.no_grad()
def fold_gates(
    layers: Mapping[str, GatedLayer], rank_limit: int
) -> tuple[dict[str, Factors], float | None]:
    """Return the factors of gated layers with their gates folded in, float32 on the CPU.

    Modules above `rank_limit` are brought to it. The second value is the energy kept over all
    modules, None while every one is exact.
    """
    found: dict[str, Factors] = {}
    kept = total = 0.0
    for name, layer in layers.items():
        a, b = layer.a.float().cpu(), layer.b.float().cpu()
        whole = Factors(a, b if layer.gates is None else b * layer.gates.float().cpu())
        fits = whole.rank <= rank_limit
        found[name] = whole if fits else truncated_sum([whole], [1.0], rank_limit).factors
        kept, total = kept + _square(found[name]), total + _square(whole)
    exact = all(layer.b.shape[1] <= rank_limit for layer in layers.values())
    return found, None if exact else kept / total if total else 1.0


def _square(factors: Factors) -> float:
    """Return |b a|², by Gram matrices."""
    on_a, on_b = gram_of_rows(factors.a, exact=False), gram_of_rows(factors.b.mT, exact=False)
    return float((on_a * on_b).sum())


def _member(held: Held, at: int, table: Table, base: str) -> Member:
    # Eight digits are all that float32 has, and a third of the text that seventeen would be.
    rounded = {
        name: float(f"{row[at]:.8g}") for name, row in table.items() if name in held.folder.modules
    }
    mean = sum(rounded.values()) / max(1, len(rounded))
    if len(set(rounded.values())) == 1:
        return Member.from_folder(
            held.reference, held.folder, rounded.popitem()[1], held.digest, base=base
        )
    return Member.from_folder(
        held.reference, held.folder, mean, held.digest, base=base, patterns=tuple(rounded.items())
    )
