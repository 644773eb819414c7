"""From a `model` field to what has to be served: names become digests, wishes become recipes.

One short read of the registry per reference; nothing is written, merged or loaded here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from merge.methods import METHODS
from merge.recipe import Member, ModuleShape, Recipe, plan
from registry.callers import LOCAL, Caller
from registry.errors import UnknownReference
from registry.references import Reference
from registry.service import Registry
from registry.types import ModuleFacts, ResolvedAdapter, ResolvedArtifact, ResolvedComposition
from server.compose import retrieve
from server.compose.expression import Expression, ExpressionInvalid, Term, parse_model


class NotAnIngredient(ValueError):
    """A composition or an artifact was named where an adapter is needed."""

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(
            f"{text} is {kind}; ingredients are adapters (write its expression out instead)"
        )


class WrongBase(ValueError):
    """What was named belongs to another base than the one that is served."""

    def __init__(self, text: str, base: str, served: str) -> None:
        super().__init__(f"{text} is for the base {base}; this server serves {served}")


class RankTooLarge(ValueError):
    """A single adapter has a larger rank than the engine takes."""

    def __init__(self, text: str, rank: int, limit: int) -> None:
        super().__init__(
            f"{text} has rank {rank}, the engine takes {limit}: ask for "
            f"linear({text}; rank={limit}), or raise WEFT_MAX_LORA_RANK"
        )


@dataclass(frozen=True, slots=True)
class Bare:
    """The base itself, by the name that the engine knows it by."""

    name: str


@dataclass(frozen=True, slots=True)
class Stored:
    """One known digest: a version, or an artifact with the recipe that gives it again."""

    digest: str
    recipe: Recipe | None = None
    chosen: tuple[str, ...] = ()  # what a retrieval chose, as references


@dataclass(frozen=True, slots=True)
class Planned:
    """A recipe, merged before or not."""

    recipe: Recipe
    chosen: tuple[str, ...] = ()  # what a retrieval chose, as references


Target: TypeAlias = Bare | Stored | Planned


@dataclass(frozen=True, slots=True)
class Resolver:
    """Resolves `model` fields for one served base. Blocking: call it off the event loop."""

    registry: Registry
    base: str  # the base's name in the registry
    served_name: str  # the base's name for clients and in the engine
    dtype: str
    rank_limit: int

    def resolve(self, text: str, prompt: str = "", *, caller: Caller = LOCAL) -> Target:
        """Return what `text` names for `caller`, who may know of all that it stands for.

        Args:
            text: the `model` field.
            prompt: what a retrieval goes by; see `CompletionRequest.prompt`.
            caller: who asks; what they may not know of does not exist.

        Raises:
            ExpressionInvalid, merge.errors.MergeError: it makes no sense, or cannot be merged.
            registry.errors.UnknownReference, VersionRetired: nothing (any more) has that name.
            NotAnIngredient, WrongBase, RankTooLarge
            RetrievalInvalid, NothingFound: of an `auto(…)`.
        """
        if text in (self.served_name, self.base):
            return Bare(self.served_name)
        parsed = parse_model(text)
        if isinstance(parsed, Reference):
            return self._reference(parsed, caller)
        if parsed.method == retrieve.NAME:
            return self._retrieved(retrieve.read_retrieval(parsed), prompt, caller)
        return Planned(self.plan(parsed, caller=caller))

    def plan(self, expression: Expression, *, caller: Caller = LOCAL) -> Recipe:
        """Return the recipe of an expression, its names resolved now, as `caller` may know them."""
        return plan(
            expression.method,
            [self._member(term, caller) for term in expression.terms],
            options=dict(expression.options),
            base=self.base,
            dtype=self.dtype,
            rank_limit=self.rank_limit,
        )

    def _retrieved(self, wish: retrieve.Retrieval, prompt: str, caller: Caller) -> Target:
        hits = retrieve.retrieve(
            self.registry.search.finder, wish, prompt, base=self.base, caller=caller
        )
        chosen = tuple(hit.reference for hit in hits)
        if len(hits) == 1 and hits[0].rank <= self.rank_limit:  # nothing to merge
            return Stored(hits[0].digest, chosen=chosen)
        return Planned(self.plan(wish.expression(hits), caller=caller), chosen)

    def _reference(self, reference: Reference, caller: Caller) -> Target:
        try:
            found = self.registry.versions.resolve(reference, caller=caller)
        except UnknownReference as error:
            method = str(reference)
            if method not in (retrieve.NAME, *METHODS):
                raise
            example = f"{method}(; k=3)" if method == retrieve.NAME else f"{method}(a, b)"
            expected = f"'(' after the name of a merge method, as in `{example}`,"
            raise ExpressionInvalid(method, len(method), expected) from error
        if found.base != self.base:
            raise WrongBase(str(reference), found.base, self.base)
        if isinstance(found, ResolvedComposition):
            recipe = Recipe.parse(found.recipe_text)
            rank = dict(recipe.options).get("rank")
            if isinstance(rank, int) and rank > self.rank_limit:
                raise RankTooLarge(str(reference), rank, self.rank_limit)
            return Planned(recipe)
        if isinstance(found, ResolvedArtifact):
            return Stored(found.digest, Recipe.parse(found.recipe_text))
        if found.rank > self.rank_limit:
            raise RankTooLarge(str(reference), found.rank, self.rank_limit)
        return Stored(found.digest)

    def _member(self, term: Term, caller: Caller) -> Member:
        found = resolve_adapter(self.registry, term.reference, caller=caller)
        shapes = _shapes(found.modules)
        return Member(str(term.reference), found.digest, term.weight, found.base, shapes)


def resolve_adapter(
    registry: Registry, reference: Reference, *, caller: Caller = LOCAL
) -> ResolvedAdapter:
    """Return the adapter's version that `reference` means now, as `caller` may know it.

    Raises:
        registry.errors.UnknownReference, VersionRetired: nothing (any more) has that name.
        NotAnIngredient: it is a composition or an artifact.
    """
    found = registry.versions.resolve(reference, caller=caller)
    if not isinstance(found, ResolvedAdapter):
        kind = "a composition" if isinstance(found, ResolvedComposition) else "an artifact"
        raise NotAnIngredient(str(reference), kind)
    return found


def _shapes(modules: Mapping[str, ModuleFacts]) -> dict[str, ModuleShape]:
    return {
        name: ModuleShape(facts.rank, facts.d_in, facts.d_out, facts.kind)
        for name, facts in modules.items()
    }
