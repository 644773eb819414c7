"""Folds: from coefficients to a recipe or, where no recipe can express them, to an adapter.

One number per member and module is a recipe: the exact `cat` while its rank fits the engine, else
`linear` truncated to the engine's limit, whose report has the energy kept. One number per rank is
not a recipe of members: the gates are multiplied into the factors.
"""

import shutil
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from merge.adaptive.candidates import Serving
from merge.adaptive.context import AdapterRef, JobContext, Target
from merge.adaptive.model.stacked import GatedLayer, Modules, embeddings_of, read_modules
from merge.adaptive.scoring.scored import Scored
from merge.errors import MergeError
from merge.factors import Factors, gram_of_rows
from merge.linalg import truncated_sum
from merge.peft_format import open_folder
from merge.recipe import Member, Recipe, plan
from merge.run import merge

Table = Mapping[str, Sequence[float]]  # by module: a number for each member


def fold_table(adapters: Sequence[AdapterRef], table: Table, target: Target) -> Recipe:
    """Return the recipe of Σ coefficient · update.

    Args:
        adapters: the members, in the table's order.
        table: by module, (K,) coefficients; 0 leaves a member out there.
        target: of the artifact.

    Raises:
        RecipeInvalid: every coefficient is 0: nothing was learned.
        IncompatibleAdapters: shapes differ.
    """
    members = [_member(adapter, at, table, target.base) for at, adapter in enumerate(adapters)]
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


def fold_sum(adapters: Sequence[AdapterRef], weights: Sequence[float], target: Target) -> Recipe:
    """Return the recipe of Σ weight · update. Raises as `fold_table`."""
    names = sorted({name for adapter in adapters for name in adapter.folder.modules})
    return fold_table(adapters, dict.fromkeys(names, weights), target)


def fold_weights(
    adapters: Sequence[AdapterRef],
    weights: Sequence[float],
    target: Target,
    *,
    method: str,
    options: Mapping[str, object],
) -> Recipe:
    """Return the recipe of a method with one weight per member. Raises as `merge.recipe.plan`."""
    members = [
        Member.from_folder(
            adapter.reference, adapter.folder, weight, adapter.digest, base=target.base
        )
        for adapter, weight in zip(adapters, weights, strict=True)
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
    folded: dict[str, Factors] = {}
    kept = total = 0.0
    for name, layer in layers.items():
        a, b = layer.a.float().cpu(), layer.b.float().cpu()
        whole = Factors(a, b if layer.gates is None else b * layer.gates.float().cpu())
        fits = whole.rank <= rank_limit
        folded[name] = whole if fits else truncated_sum([whole], [1.0], rank_limit).factors
        kept, total = kept + _square(folded[name]), total + _square(whole)
    exact = all(layer.b.shape[1] <= rank_limit for layer in layers.values())
    return folded, None if exact else kept / total if total else 1.0


def _square(factors: Factors) -> float:
    """Return |b a|², by Gram matrices."""
    on_a, on_b = gram_of_rows(factors.a, exact=False), gram_of_rows(factors.b.mT, exact=False)
    return float((on_a * on_b).sum())


def _member(adapter: AdapterRef, at: int, table: Table, base: str) -> Member:
    # float32 has eight significant digits; printing the float64 would double the recipe's text.
    rounded = {
        name: float(f"{row[at]:.8g}")
        for name, row in table.items()
        if name in adapter.folder.modules
    }
    mean = sum(rounded.values()) / max(1, len(rounded))
    if len(set(rounded.values())) == 1:
        return Member.from_folder(
            adapter.reference, adapter.folder, rounded.popitem()[1], adapter.digest, base=base
        )
    return Member.from_folder(
        adapter.reference,
        adapter.folder,
        mean,
        adapter.digest,
        base=base,
        patterns=tuple(rounded.items()),
    )


class Ingredients(NamedTuple):
    """Adapters to learn over. `modules` may differ from the files (see `is_noise`)."""

    adapters: Sequence[AdapterRef]
    modules: Sequence[Modules]  # one for each
    is_noise: bool = False  # the modules are redrawn, so the result cannot be served

    @staticmethod
    def of(adapters: Sequence[AdapterRef]) -> "Ingredients":
        """Return the adapters with the modules of their files."""
        return Ingredients(adapters, [read_modules(adapter.folder) for adapter in adapters])

    @property
    def embeddings(self) -> frozenset[str]:
        """The modules that read token ids."""
        return embeddings_of([adapter.folder for adapter in self.adapters])

    @property
    def references(self) -> tuple[str, ...]:
        """The adapters' references."""
        return tuple(adapter.reference for adapter in self.adapters)


class Fold(NamedTuple):
    """A candidate's servable form and the scores of its files."""

    serving: Serving
    scored: Scored | None = None
    energy: float | None = None


NOT_SERVABLE = Fold(Serving("nothing", reason="a control without content"))


def fold_recipe(
    context: JobContext, name: str, recipe: Recipe, adapters: Sequence[AdapterRef]
) -> Fold:
    """Merge a recipe as the server will, and score the resulting files."""
    out = context.folder / "folded" / name
    shutil.rmtree(out, ignore_errors=True)
    try:
        folders = {adapter.digest: adapter.folder.path for adapter in adapters}
        report = merge(recipe, folders, out, norm_limit=context.setting.norm_limit)
        scored = context.scorer.score(context.updates(open_folder(out)), context.tests)
    except MergeError as error:
        return Fold(Serving("nothing", reason=str(error)))
    finally:
        shutil.rmtree(out, ignore_errors=True)
    used = {item.digest for item in recipe.ingredients}
    own = {
        adapter.digest: context.own_folder(adapter)
        for adapter in adapters
        if adapter.digest in used
    }
    written = {digest: folder for digest, folder in own.items() if folder is not None}
    serving = Serving("recipe", recipe=recipe.canonical(), adapters=written)
    return Fold(serving, scored, report.overall.energy)
