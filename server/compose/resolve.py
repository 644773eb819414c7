"""Resolves a `model` field to a digest or a recipe.

Every reference is one short read of the registry; nothing is written, merged or loaded here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from merge.limits import UNLIMITED, Limits
from merge.recipe import Member, ModuleShape, Recipe, plan
from registry.callers import LOCAL, Caller
from registry.errors import UnknownReference
from registry.references import Reference
from registry.service import Registry
from registry.types import ModuleFacts, ResolvedAdapter, ResolvedArtifact, ResolvedComposition
from server.compose import retrieve
from server.compose.composition import (
    NAME,
    Composition,
    CompositionInvalid,
    blaming,
    place_of,
    read_composition,
)
from server.compose.expression import Expression, ExpressionInvalid, Term, parse_model
from server.compose.grid import rounded
from server.recent import Recent
from server.served_bases import ServedBase, ServedBases


class NotAnIngredient(ValueError):
    """A composition or an artifact is used as an ingredient."""

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(
            f"{text} is {kind}, and ingredients must be adapters. Write out its expression instead."
        )


class WrongBase(ValueError):
    """The adapter or composition is for a base that is not served."""

    def __init__(self, text: str, base: str, served: str) -> None:
        super().__init__(f"{text} is for the base {base}; this server serves {served}.")


class RankTooLarge(ValueError):
    """The rank of an adapter or a composition is above the engine's limit."""

    def __init__(self, text: str, rank: int, limit: int) -> None:
        super().__init__(
            f"{text} has rank {rank}, and the engine's limit is {limit}. Ask for "
            f"linear({text}; rank={limit}), or raise WEFT_MAX_LORA_RANK."
        )


@dataclass(frozen=True, slots=True)
class Bare:
    """The base itself."""

    base: str  # its name in the registry
    fallback: str = ""  # why it answers in place of adapters


@dataclass(frozen=True, slots=True)
class Stored:
    """A known digest: a version, or an artifact with the recipe that rebuilds it."""

    digest: str
    base: str  # its name in the registry
    recipe: Recipe | None = None
    chosen: tuple[str, ...] = ()  # what a retrieval chose, as references


@dataclass(frozen=True, slots=True)
class Planned:
    """A recipe with its digest, which may or may not have been merged before."""

    recipe: Recipe
    # What a retrieval chose, or a `composition` object named, as references.
    chosen: tuple[str, ...] = field(default=(), compare=False)
    # As it is merged, with rounded weights, or as it was saved; "" where no expression says it.
    expression: str = field(default="", compare=False)
    # Computed once, since the text of a recipe with thousands of weights takes milliseconds.
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", self.recipe.digest())

    @property
    def base(self) -> str:
        """The name of its base in the registry."""
        return self.recipe.base


Target: TypeAlias = Bare | Stored | Planned
# Bytes of a `composition` object that is not remembered, nor its recipe with a weight per module.
LARGE_COMPOSITION = 16_384


@dataclass(frozen=True, slots=True)
class Resolver:
    """Resolves `model` fields for the served bases. Blocking: call it off the event loop."""

    registry: Registry
    bases: ServedBases
    limits: Limits = UNLIMITED  # on what callers may ask for
    weight_step: float = 0.0  # the grid of weights in requests; 0: exact
    recent: Recent[Target] = field(default_factory=Recent)

    def resolve(
        self,
        model: str,
        prompt: str = "",
        *,
        composition: bytes | None = None,
        caller: Caller = LOCAL,
    ) -> Target:
        """Return what `model` names, as far as `caller` can see it.

        Args:
            model: the `model` field.
            prompt: the text that a retrieval searches by; see `CompletionRequest.prompt`.
            composition: the `composition` object, as JSON; `model` is then "" or a base.
            caller: the caller; names that it cannot see are unknown.

        Raises:
            ExpressionInvalid, CompositionInvalid: it does not parse.
            merge.errors.MergeError: it cannot be merged.
            registry.errors.UnknownReference, VersionRetired: a name is unknown or out of use.
            registry.errors.CompositionDenied: a policy denies the composition.
            NotAnIngredient, WrongBase, RankTooLarge
            RetrievalInvalid, NothingFound: of an `auto(…)`.
            registry.errors.DatabaseUnreachable: for longer than 30 seconds, or for another model.
        """
        if composition is not None and len(composition) > LARGE_COMPOSITION:
            return self._resolve(model, prompt, composition, caller)  # too large to remember
        key = (model, composition, hash(prompt), caller)  # a prompt may be long
        return self.recent.ask(key, lambda: self._resolve(model, prompt, composition, caller))

    def confirm(
        self, model: str, composition: bytes | None, target: Target, *, caller: Caller
    ) -> None:
        """Note that a model still means `target`, for a time in which the database is gone."""
        self.recent.keep((model, composition, hash(""), caller), target)

    def _resolve(
        self, model: str, prompt: str, composition: bytes | None, caller: Caller
    ) -> Target:
        if composition is not None:
            return self._composed(model, composition, caller)
        named_base = self.bases.called(model)
        if named_base is not None:
            return Bare(named_base.name)
        named = parse_model(model)
        if isinstance(named, Reference):
            return self._reference(named, caller)
        if named.method == retrieve.NAME:
            return self._retrieved(retrieve.read_retrieval(named), prompt, caller)
        return self._planned(named, caller)

    def _planned(
        self, expression: Expression, caller: Caller, chosen: tuple[str, ...] = ()
    ) -> Planned:
        expression = rounded(expression, self.weight_step)
        return Planned(self.plan(expression, caller=caller), chosen, str(expression))

    def plan(
        self, expression: Expression, *, base: ServedBase | None = None, caller: Caller = LOCAL
    ) -> Recipe:
        """Return the recipe of an expression, with its names resolved for `caller` now.

        Its weights are exact: compositions are saved with them. `base` is as in `recipe_of`.

        Raises:
            registry.errors.CompositionDenied: a policy denies it.
            as `resolve`.
        """
        self.limits.check_members(len(expression.terms))
        members = [self._member(term, caller) for term in expression.terms]
        return self.recipe_of(expression, members, base=base)

    def recipe_of(
        self,
        expression: Expression,
        members: Sequence[Member],
        *,
        base: ServedBase | None = None,
        dtype: str | None = None,
    ) -> Recipe:
        """Return the recipe of an expression whose names are resolved to these members.

        Args:
            expression: as written.
            members: its ingredients.
            base: the base that all must be for; by default that of the first ingredient, if it is
                served.
            dtype: of the result; by default that of the base.

        Raises:
            merge.errors.MergeError: it cannot be merged.
            registry.errors.CompositionDenied: a policy denies it.
        """
        policies = self.registry.access.policies
        policies.check({member.digest: member.label for member in members})
        base = base or self._common_base(members)
        return plan(
            expression.method,
            members,
            options=dict(expression.options),
            base=base.name,
            dtype=dtype or base.dtype,
            rank_limit=base.rank_limit,
            limits=self.limits,
        )

    def _common_base(self, members: Sequence[Member]) -> ServedBase:
        first = next((member.base for member in members), "")
        return self.bases[first] if first in self.bases.names else self.bases.default

    def _composed(self, model: str, raw: bytes, caller: Caller) -> Planned:
        asked = self.rounded(read_composition(raw))
        recipe = self.plan_composition(asked, model=model, caller=caller)
        named = tuple(str(term.reference) for term in asked.expression.terms)
        return Planned(recipe, named, asked.as_expression() or "")

    def rounded(self, asked: Composition) -> Composition:
        """Return an object with its weights on the grid of requests."""
        return replace(asked, expression=rounded(asked.expression, self.weight_step))

    def plan_composition(
        self, composition: Composition, *, model: str = "", caller: Caller = LOCAL
    ) -> Recipe:
        """Return the recipe of a `composition` object, with exact weights, as `plan` does.

        `model` is the `model` field beside it: "" or a base. Errors name the place in the object.
        """
        base = self._base_beside(model, composition.base)
        terms, members = composition.expression.terms, []
        with blaming(f"{NAME}.adapters"):
            self.limits.check_members(len(terms))
        for position, term in enumerate(terms):
            with blaming(place_of(position)):
                members.append(self._member(term, caller))
        with blaming(NAME):
            return self.recipe_of(
                composition.expression, members, base=base, dtype=composition.dtype
            )

    def _base_beside(self, model: str, name: str | None) -> ServedBase | None:
        """Return the base that `model` and the object's own `base` name; None: neither does."""
        by_model = self.bases.called(model)
        if model and by_model is None:
            raise CompositionInvalid(
                f"`model` is {model:.80}, and the request has a `{NAME}` object. Leave out `model` "
                f"or give the base, {self.bases}.",
                "model",
            )
        if name is None:
            return by_model
        with blaming(f"{NAME}.base"):
            base = self.bases.called(name) or self._served(self.registry.bases.get(name).name)
        if by_model is not None and by_model is not base:
            raise CompositionInvalid(
                f"`model` is {model:.80}, and `{NAME}.base` is {name:.80}. Leave out one of them.",
                f"{NAME}.base",
            )
        return base

    def _served(self, base: str, text: str = f"`{NAME}`") -> ServedBase:
        """Return the base with this name in the registry. Raises WrongBase: it is not served."""
        if base not in self.bases.names:
            raise WrongBase(text, base, " and ".join(base.name for base in self.bases))
        return self.bases[base]

    def _retrieved(self, retrieval: retrieve.Retrieval, prompt: str, caller: Caller) -> Target:
        base = self.bases.default
        if retrieval.base is not None:
            named = self.bases.called(retrieval.base)
            base = named or self._served(self.registry.bases.get(retrieval.base).name, "auto")
        hits = retrieve.retrieve(self.registry, retrieval, prompt, base=base.name, caller=caller)
        if isinstance(hits, retrieve.NothingNear):
            return Bare(base.name, fallback=str(hits))
        chosen = tuple(hit.reference for hit in hits)
        if len(hits) == 1 and hits[0].rank <= base.rank_limit:  # nothing to merge
            return Stored(hits[0].digest, base.name, chosen=chosen)
        return self._planned(retrieval.expression(hits), caller, chosen)

    def _reference(self, reference: Reference, caller: Caller) -> Target:
        try:
            meaning = self.registry.versions.resolve(reference, caller=caller)
        except UnknownReference as error:
            method = str(reference)
            from merge.methods import METHODS  # here: it imports torch

            if method not in (retrieve.NAME, *METHODS):
                raise
            example = f"{method}(; k=3)" if method == retrieve.NAME else f"{method}(a, b)"
            expected = f"'(' after the name of a merge method, as in `{example}`,"
            raise ExpressionInvalid(method, len(method), expected) from error
        base = self._served(meaning.base, str(reference))
        if isinstance(meaning, ResolvedComposition):
            recipe = Recipe.parse(meaning.recipe_text)
            rank = dict(recipe.options).get("rank")
            if isinstance(rank, int) and rank > base.rank_limit:
                raise RankTooLarge(str(reference), rank, base.rank_limit)
            return Planned(recipe, expression=meaning.expression)
        if isinstance(meaning, ResolvedArtifact):
            return Stored(meaning.digest, base.name, Recipe.parse(meaning.recipe_text))
        if meaning.rank > base.rank_limit:
            raise RankTooLarge(str(reference), meaning.rank, base.rank_limit)
        return Stored(meaning.digest, base.name)

    def _member(self, term: Term, caller: Caller) -> Member:
        adapter = resolve_adapter(self.registry, term.reference, caller=caller)
        shapes = shapes_of(adapter.modules)
        label = str(term.reference)
        return Member(label, adapter.digest, term.weight, adapter.base, shapes, term.patterns)


def resolve_adapter(
    registry: Registry, reference: Reference, *, caller: Caller = LOCAL
) -> ResolvedAdapter:
    """Return the adapter version that `reference` means for `caller` now.

    Raises:
        registry.errors.UnknownReference, VersionRetired: the name is unknown or out of use.
        NotAnIngredient: it is a composition or an artifact.
    """
    meaning = registry.versions.resolve(reference, caller=caller)
    if not isinstance(meaning, ResolvedAdapter):
        kind = "a composition" if isinstance(meaning, ResolvedComposition) else "an artifact"
        raise NotAnIngredient(str(reference), kind)
    return meaning


def shapes_of(modules: Mapping[str, ModuleFacts]) -> dict[str, ModuleShape]:
    """Return the shapes of an adapter's modules."""
    return {
        name: ModuleShape(facts.rank, facts.d_in, facts.d_out, facts.kind)
        for name, facts in modules.items()
    }
