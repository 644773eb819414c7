"""Recipes: what to merge and how, as a value with one canonical text and digest.

Covered: the recipe, its canonical text, and `plan`, which checks a request against the members and
fills in everything left open. Not covered: names, versions and aliases (the caller resolves them to
digests) and the tensors (`run`).
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from merge.errors import IncompatibleAdapters, RecipeInvalid
from merge.limits import UNLIMITED, Limits
from merge.methods.options import AUTO, Value
from merge.peft_format import AdapterFolder, is_digest
from merge.peft_format.names import Kind
from merge.weights import Patterns, check_weights, weight_in

if TYPE_CHECKING:
    from merge.methods import MergeMethod

FORMAT = 1
# What a recipe calls a dtype -> what a safetensors file calls it.
OUTPUT_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
# The exceptions of reading hostile JSON as a recipe.
_JUNK = (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError)


class ModuleShape(NamedTuple):
    """One module of an adapter: factors (rank, d_in) and (d_out, rank)."""

    rank: int
    d_in: int
    d_out: int
    kind: Kind


class Ingredient(NamedTuple):
    """One version in a recipe, by its digest."""

    digest: str
    weight: float
    patterns: Patterns = ()  # weights of modules by pattern; the last match applies

    def weight_in(self, module: str) -> float:
        """Return the weight in `module`."""
        return weight_in(module, self.weight, self.patterns)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that determines a merged adapter's numbers. Equal recipes have equal digests.

    Build one with `plan` or `Recipe.parse`. Raises RecipeInvalid for a malformed field.
    """

    method: str
    revision: int  # of the method
    base: str
    ingredients: tuple[Ingredient, ...]  # ordered
    options: tuple[tuple[str, Value], ...]  # sorted by name, every default filled in
    dtype: str  # of the output's tensors

    def __post_init__(self) -> None:
        for item in self.ingredients:
            if not is_digest(item.digest):
                raise RecipeInvalid(f"ingredient {item.digest!r:.80}: expected 64 hex digits")
        for name, value in self.options:
            scalar = isinstance(value, bool | int | float | str | None)
            if not scalar or (isinstance(value, float) and not math.isfinite(value)):
                raise RecipeInvalid(
                    f"option {name!r:.80}: {value!r:.80} is not a number, text, boolean or null"
                )
        check_weights((item.weight, item.patterns) for item in self.ingredients)
        _check_dtype(self.dtype)

    def weights_of(self, module: str) -> tuple[float, ...]:
        """Return every ingredient's weight in `module`, (T,); 0 leaves an ingredient out there."""
        return tuple(item.weight_in(module) for item in self.ingredients)

    @property
    def lineage(self) -> list[tuple[str, float]]:
        """The ingredients as (digest, weight), in order and without patterns, for records."""
        return [(item.digest, item.weight) for item in self.ingredients]

    def canonical(self) -> str:
        """Return the recipe as compact JSON with sorted keys; `parse` is its inverse."""
        document = {
            "weft": FORMAT,
            "method": self.method,
            "revision": self.revision,
            "base": self.base,
            "ingredients": [_document(item) for item in self.ingredients],
            "options": dict(self.options),
            "dtype": self.dtype,
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def digest(self) -> str:
        """Return the SHA-256 of the canonical text, 64 hex digits."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    @staticmethod
    def parse(text: str) -> "Recipe":
        """Return the recipe with the canonical text `text`.

        Raises:
            RecipeInvalid: the text is not a canonical recipe, or is of another format version.
        """
        try:
            document = json.loads(text)
            if document.pop("weft") != FORMAT:
                raise RecipeInvalid(
                    f"the recipe's format is not {FORMAT}, the only one that this weft reads"
                )
            recipe = _from_document(**document)
        except RecipeInvalid:
            raise
        except _JUNK as error:
            raise RecipeInvalid(f"not a recipe: {error!r:.200}") from error
        # The digest is of the text: a second spelling of a recipe would be a second identity.
        if recipe.canonical() != text.strip():
            raise RecipeInvalid("not canonical: the same recipe has other keys, spaces or numbers")
        return recipe


def _document(item: Ingredient) -> dict[str, object]:
    # Adding 0.0 turns -0.0 into 0.0, and float() an integer: equal weights must have equal text.
    plain: dict[str, object] = {"digest": item.digest, "weight": float(item.weight) + 0.0}
    if item.patterns:  # a list of pairs, since the order decides and JSON objects have none
        plain["modules"] = [[pattern, float(w) + 0.0] for pattern, w in item.patterns]
    return plain


def _ingredient(document: dict[str, Any]) -> Ingredient:
    patterns = tuple((str(pattern), float(w)) for pattern, w in document.get("modules", ()))
    return Ingredient(document["digest"], float(document["weight"]), patterns)


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
        ingredients=tuple(map(_ingredient, ingredients)),
        options=tuple(sorted(options.items())),
        dtype=dtype,
    )


@dataclass(frozen=True, slots=True)
class Member:
    """An adapter to merge, without its tensors; `label` is its name in messages."""

    label: str
    digest: str
    weight: float
    base: str
    modules: Mapping[str, ModuleShape]
    patterns: Patterns = ()  # as in Ingredient

    def weight_in(self, module: str) -> float:
        """Return the weight in `module`."""
        return weight_in(module, self.weight, self.patterns)

    @staticmethod
    def from_folder(
        label: str,
        folder: AdapterFolder,
        weight: float,
        digest: str,
        *,
        base: str | None = None,
        patterns: Patterns = (),
    ) -> "Member":
        """Return the member in `folder`; `base` replaces the base of its config."""
        modules = {
            name: ModuleShape(module.rank, module.d_in, module.d_out, module.kind)
            for name, module in folder.modules.items()
        }
        return Member(label, digest, weight, base or folder.config.base or "", modules, patterns)


def plan(
    method: str,
    members: Sequence[Member],
    *,
    options: Mapping[str, object],
    base: str,
    dtype: str,
    rank_limit: int | None,
    limits: Limits = UNLIMITED,
) -> Recipe:
    """Return the recipe of a request, with every option and the rank decided.

    Args:
        method: name of a registered method.
        members: what to merge, in order; a member is left out of modules where its weight is 0.
        options: of the method, as text or JSON values.
        base: canonical name of the base that every member must have.
        dtype: "float32", "bfloat16" or "float16".
        rank_limit: the engine's largest rank in any module; None for no limit.
        limits: on the size of the merge.

    Raises:
        RecipeInvalid: an unknown method or option, a bad value, weight or rank, no member, or
            members that do not meet the method's requirements.
        LimitExceeded: the merge is above one of `limits`.
        IncompatibleAdapters: bases, shapes or, for some methods, ranks do not agree.
    """
    from merge.methods import find_method  # here: it imports torch

    known = find_method(method)
    limits.check_members(len(members))
    check_weights((member.weight, member.patterns) for member in members)
    bound = known.bind(options)
    _check_numbers(limits, members, bound)
    _check_bases(members, base)
    check_shapes(members)
    _check_patterns(members)
    stacks = _stacks(members)
    for name, stack in stacks.items():
        _check_requirements(known, name, stack)
        if known.requirements.last_has_every_module and stack[-1] is not members[-1]:
            raise IncompatibleAdapters(
                f"{known.name} needs every module in its last ingredient: {members[-1].label} has "
                f"no {name}, which {stack[-1].label} changes; name one that has, or use linear"
            )
    ranks = {name: [m.modules[name].rank for m in stack] for name, stack in stacks.items()}
    limits.check_ranks({name: sum(of_members) for name, of_members in ranks.items()})
    bound.update(_decide_rank(known, bound, ranks, rank_limit))
    limits.check_estimate(known.estimate(_shapes(stacks), bound, threads=limits.threads))
    return Recipe(
        method=known.name,
        revision=known.revision,
        base=base,
        ingredients=tuple(
            Ingredient(member.digest, float(member.weight), member.patterns) for member in members
        ),
        options=tuple(sorted(bound.items())),
        dtype=dtype,
    )


def _check_numbers(limits: Limits, members: Sequence[Member], options: Mapping[str, Value]) -> None:
    for member in members:
        numbers = (member.weight, *(number for _, number in member.patterns))
        limits.check_numbers(f"{member.label} has the weight", numbers)
    scale = options["scale"]
    if isinstance(scale, float):
        limits.check_numbers("the scale is", [scale])


def _shapes(stacks: Mapping[str, Sequence[Member]]) -> Iterator[tuple[list[int], int, int]]:
    """Yield the members' ranks, d_in and d_out of each module."""
    for name, stack in stacks.items():
        first = stack[0].modules[name]
        yield [member.modules[name].rank for member in stack], first.d_in, first.d_out


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
            other = first.setdefault(name, member)
            if other.modules[name][1:] != shape[1:]:
                raise IncompatibleAdapters(
                    f"{other.label} and {member.label} do not fit in {name}: "
                    f"{_describe(other.modules[name])} against {_describe(shape)}"
                )


def _describe(shape: ModuleShape) -> str:
    return f"(d_out, d_in) = ({shape.d_out}, {shape.d_in}) {shape.kind}"


def _check_dtype(dtype: str) -> None:
    if dtype not in OUTPUT_DTYPES:
        raise RecipeInvalid(f"dtype {dtype!r:.80}: weft writes {', '.join(OUTPUT_DTYPES)}")


def _check_patterns(members: Sequence[Member]) -> None:
    for member in members:
        for pattern, _ in member.patterns:
            if pattern not in member.modules and not any(
                fnmatchcase(name, pattern) for name in member.modules
            ):
                raise RecipeInvalid(
                    f"weight pattern {pattern!r:.80} matches no module of {member.label}, "
                    f"which has {len(member.modules)} like {min(member.modules)}"
                )


def _stacks(members: Sequence[Member]) -> dict[str, list[Member]]:
    """Return the members with a weight other than 0 in each module, in order."""
    stacks: dict[str, list[Member]] = {}
    for member in members:
        for name in member.modules:
            if member.weight_in(name) != 0.0:
                stacks.setdefault(name, []).append(member)
    if not stacks:
        raise RecipeInvalid("every weight is 0 in every module: give at least one adapter another")
    return stacks


def _check_requirements(method: "MergeMethod", module: str, stack: Sequence[Member]) -> None:
    method.requirements.check(
        method.name, module, [member.label for member in stack],
        [member.weight_in(module) for member in stack],
        [member.modules[module].rank for member in stack],
    )  # fmt: skip


def _decide_rank(
    method: "MergeMethod",
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
                f"{method.name} gives ranks up to {needed} in {name}, above the engine's limit of "
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
