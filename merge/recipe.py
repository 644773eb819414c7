"""Recipes: what is to be merged and how, as a value whose text, and so whose digest, is unique.

Covered: the recipe, its canonical text, and `plan`, which checks a wish against the members and
fills in everything that was left open. Not covered: names, versions and aliases (the caller has
resolved them to digests) and the tensors themselves (`run`).
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from merge.errors import IncompatibleAdapters, RecipeInvalid
from merge.methods import AUTO, MergeMethod, Value, find_method
from merge.peft_format import AdapterFolder
from merge.peft_io import OUTPUT_DTYPES, ModuleShape

__all__ = ["Ingredient", "Member", "ModuleShape", "Recipe", "check_shapes", "plan"]

FORMAT = 1
# What reading hostile JSON as a recipe can raise.
_JUNK = (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError)
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Ingredient(NamedTuple):
    """One version in a recipe, by its digest."""

    digest: str
    weight: float


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides a merged adapter's numbers. Equal recipes have equal digests.

    Build one with `plan` or `Recipe.parse`. Raises RecipeInvalid for a malformed field.
    """

    method: str
    revision: int  # of the method
    base: str
    ingredients: tuple[Ingredient, ...]  # ordered
    options: tuple[tuple[str, Value], ...]  # sorted by name, every default filled in
    dtype: str  # of the output's tensors

    def __post_init__(self) -> None:
        for digest, _ in self.ingredients:
            if not _DIGEST.fullmatch(digest):
                raise RecipeInvalid(f"ingredient {digest!r:.80}: a digest is 64 hex digits")
        for name, value in self.options:
            scalar = isinstance(value, bool | int | float | str | None)
            if not scalar or (isinstance(value, float) and not math.isfinite(value)):
                raise RecipeInvalid(f"option {name!r:.80}: {value!r:.80} is not a value")
        _check_weights([weight for _, weight in self.ingredients])
        _check_dtype(self.dtype)

    def canonical(self) -> str:
        """Return the recipe as compact JSON with sorted keys; `parse` is its inverse."""
        document = {
            "weft": FORMAT,
            "method": self.method,
            "revision": self.revision,
            "base": self.base,
            # Adding 0.0 makes -0.0 and 0 the same text as 0.0.
            "ingredients": [{"digest": d, "weight": float(w) + 0.0} for d, w in self.ingredients],
            "options": dict(self.options),
            "dtype": self.dtype,
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def digest(self) -> str:
        """Return the SHA-256 of the canonical text, 64 hex digits."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    @staticmethod
    def parse(text: str) -> "Recipe":
        """Return the recipe that `text` is the canonical form of.

        Raises:
            RecipeInvalid: the text is no recipe, or one of another format version.
        """
        try:
            document = json.loads(text)
            if document.pop("weft") != FORMAT:
                raise RecipeInvalid(
                    f"the recipe's format is not {FORMAT}; this weft reads no other"
                )
            recipe = _from_document(**document)
        except RecipeInvalid:
            raise
        except _JUNK as error:
            raise RecipeInvalid(f"not a recipe: {error!r:.200}") from error
        if recipe.canonical() != text.strip():
            raise RecipeInvalid("not a recipe's canonical text: it reads back differently")
        return recipe


def _from_document(
    *,
    method: str,
    revision: int,
    base: str,
    ingredients: list[dict[str, Any]],
    options: dict[str, Value],
    dtype: str,
) -> Recipe:
    return Recipe(
        method=str(method),
        revision=int(revision),
        base=str(base),
        ingredients=tuple(Ingredient(i["digest"], float(i["weight"])) for i in ingredients),
        options=tuple(sorted(options.items())),
        dtype=dtype,
    )


@dataclass(frozen=True, slots=True)
class Member:
    """An adapter that somebody wants merged; `label` is what messages call it."""

    label: str
    digest: str
    weight: float
    base: str
    modules: Mapping[str, ModuleShape]

    @staticmethod
    def from_folder(
        label: str, folder: AdapterFolder, weight: float, digest: str, *, base: str | None = None
    ) -> "Member":
        """Return the member in `folder`; `base` stands in where its config names none."""
        modules = {
            name: ModuleShape(module.rank, module.d_in, module.d_out, module.kind)
            for name, module in folder.modules.items()
        }
        return Member(label, digest, weight, base or folder.config.base or "", modules)


def plan(
    method: str,
    members: Sequence[Member],
    *,
    options: Mapping[str, object],
    base: str,
    dtype: str,
    rank_limit: int | None,
) -> Recipe:
    """Return the recipe for a wish, with every option and the rank decided.

    Args:
        method: name of a registered method.
        members: what to merge, in order; a weight of 0 leaves a member out of the result.
        options: of the method, as text or JSON values.
        base: canonical name of the base that every member must have.
        dtype: "float32", "bfloat16" or "float16".
        rank_limit: the largest rank that the engine takes in any module; None for no limit.

    Raises:
        RecipeInvalid: an unknown method or option, a bad value, weight or rank, no member.
        IncompatibleAdapters: bases or shapes do not agree.
    """
    known = find_method(method)
    _check_weights([member.weight for member in members])
    bound = known.bind(options)
    _check_bases(members, base)
    check_shapes(members)
    counted = [member for member in members if member.weight != 0.0]
    bound.update(_decide_rank(known, bound, _ranks(counted), rank_limit))
    return Recipe(
        method=known.name,
        revision=known.revision,
        base=base,
        ingredients=tuple(Ingredient(member.digest, float(member.weight)) for member in members),
        options=tuple(sorted(bound.items())),
        dtype=dtype,
    )


def _check_bases(members: Sequence[Member], base: str) -> None:
    for member in members:
        if member.base != base:
            other = next((f"{m.label} for {m.base}" for m in members if m.base == base), None)
            raise IncompatibleAdapters(
                f"{member.label} was trained for the base {member.base or '(not named)'}, "
                f"{other or f'the merge is for {base}'}: only adapters of one base can be merged"
            )


def check_shapes(members: Sequence[Member]) -> None:
    """Raise IncompatibleAdapters unless a module has one shape in all members that have it.

    Module sets may differ, even be disjoint.
    """
    first: dict[str, Member] = {}
    for member in members:
        for name, shape in member.modules.items():
            held = first.setdefault(name, member)
            if held.modules[name][1:] != shape[1:]:
                raise IncompatibleAdapters(
                    f"{held.label} and {member.label} do not fit in {name}: "
                    f"{_describe(held.modules[name])} against {_describe(shape)}"
                )


def _describe(shape: ModuleShape) -> str:
    return f"(d_out, d_in) = ({shape.d_out}, {shape.d_in}) {shape.kind}"


def _check_weights(weights: Sequence[float]) -> None:
    if not weights:
        raise RecipeInvalid("nothing to merge: name at least one adapter")
    for weight in weights:
        if not math.isfinite(weight):
            raise RecipeInvalid(f"weight {weight} is not a finite number")
    if not any(weights):
        raise RecipeInvalid("every weight is 0: at least one must not be")


def _check_dtype(dtype: str) -> None:
    if dtype not in OUTPUT_DTYPES:
        raise RecipeInvalid(f"dtype {dtype!r:.80}: weft writes {', '.join(OUTPUT_DTYPES)}")


def _ranks(members: Sequence[Member]) -> dict[str, list[int]]:
    """Return the ranks of the members that have each module."""
    ranks: dict[str, list[int]] = {}
    for member in members:
        for name, shape in member.modules.items():
            ranks.setdefault(name, []).append(shape.rank)
    return ranks


def _decide_rank(
    method: MergeMethod,
    options: Mapping[str, Value],
    ranks: Mapping[str, Sequence[int]],
    limit: int | None,
) -> dict[str, Value]:
    """Return {"rank": number} for a method that has the option, else {}."""
    if "rank" not in options:
        name = max(ranks, key=lambda name: sum(ranks[name]))
        needed = method.result_rank(ranks[name], options)
        if limit is not None and needed > limit:
            raise RecipeInvalid(
                f"{method.name} adds ranks up to {needed} in {name}, above the engine's limit of "
                f"{limit}: use linear(...; rank={limit})"
            )
        return {}
    rank = options["rank"]
    if rank == AUTO:
        rank = method.automatic_rank(list(ranks.values()))
        return {"rank": rank if limit is None else min(rank, limit)}
    if limit is not None and isinstance(rank, int) and rank > limit:
        raise RecipeInvalid(f"rank {rank} is above the engine's limit: at most {limit}")
    return {"rank": rank}
