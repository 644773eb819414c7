"""What a `model` field means and what it would take, without building anything.

Covered: ingredients with their share of the norm and their cosines, the result's rank, bytes and
seconds, warnings, and the report if it was built. Not covered: quality, which takes examples.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from merge.recipe import Ingredient, Member, Recipe
from registry.callers import LOCAL, Caller
from registry.errors import VersionQuarantined
from registry.references import Reference
from registry.types import AdapterVersion
from registry.versions.catalogue import Catalogue
from server.compose.composition import Composition, read_composition, read_saved
from server.compose.expression import Expression, parse_model
from server.compose.resolve import Bare, Planned, Resolver, Stored, Target, shapes_of
from server.compose.templates import mixed_templates

Kind: TypeAlias = Literal["base", "adapter", "merge"]
Warned: TypeAlias = Literal[
    "quarantined", "retired", "mixed_templates", "dominates", "nothing_near"
]
# From here on the largest ingredient decides most of what a sum does.
_DOMINATES = 2.0


@dataclass(frozen=True, slots=True)
class Part:
    """One ingredient; `share` is its part of the sum of |weight · update| over all ingredients."""

    reference: str
    digest: str
    weight: float
    rank: int
    norm: float  # of its update, before its weight
    share: float


@dataclass(frozen=True, slots=True)
class Caution:
    """Something to know before building."""

    code: Warned
    message: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a model means. Figures of a merge are None for the base and for single adapters."""

    kind: Kind
    base: str
    expression: str | None = None  # as asked; None where only the object says it
    composition: Mapping[str, Any] | None = None  # the same as the object of a request
    method: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: str | None = None  # its digest
    artifact: str | None = None  # the digest that answers; None: not built yet
    rank: int | None = None
    nbytes: int | None = None  # of the result's tensors
    memory_bytes: int | None = None  # of the merge, at most
    seconds: float | None = None  # of the merge, at least
    ingredients: tuple[Part, ...] = ()
    cosines: tuple[tuple[float | None, ...], ...] = ()  # of the ingredients' updates, estimated
    warnings: tuple[Caution, ...] = ()
    report: Mapping[str, Any] | None = None  # of the merge, if it was built


@dataclass(frozen=True, slots=True)
class Explainer:
    """Explains models for the served bases. Blocking: call it off the event loop."""

    resolver: Resolver
    threads: int  # of a merge

    def explain(
        self,
        model: str,
        prompt: str = "",
        *,
        composition: bytes | None = None,
        caller: Caller = LOCAL,
    ) -> Explanation:
        """Return what `model` means for `caller` now, quarantined ingredients included.

        The arguments are those of `Resolver.resolve`.

        Raises:
            as `Resolver.resolve`, but for VersionQuarantined of an ingredient.
        """
        warnings: list[Caution] = []
        asked = None if composition is None else read_composition(composition)
        try:
            target = self.resolver.resolve(model, prompt, composition=composition, caller=caller)
        except VersionQuarantined as error:
            target = self._out_of_use(model, asked, caller, warnings, error)
        if isinstance(target, Bare):
            far = [Caution("nothing_near", target.fallback)] if target.fallback else []
            return Explanation("base", target.base, warnings=tuple(far))
        if target.recipe is None:
            assert isinstance(target, Stored)
            return self._adapter(target.digest, caller, warnings)
        explained = self._merge(target.recipe, caller, warnings)
        return replace(explained, **self._writings(asked, target))

    def reference_of(self, digest: str, *, caller: Caller) -> str:
        """Return how the caller may name a content, as `legal@2`.

        Raises:
            registry.errors.UnknownReference: it sees no version with the content.
        """
        return _name(self._by_digest(digest, caller))

    def _out_of_use(
        self, model: str, asked: Composition | None, caller: Caller, warnings: list[Caution],
        error: VersionQuarantined,
    ) -> Target:  # fmt: skip
        """Return what is named although an ingredient is out of use, or what it was made of."""
        if asked is not None:
            return self._with_quarantined(asked, caller)
        named = parse_model(model)
        if isinstance(named, Expression):
            return self._with_quarantined(Composition(named), caller)
        warnings.append(Caution("quarantined", str(error)))
        return self._quarantined(named, caller, error)

    def _quarantined(
        self, reference: Reference, caller: Caller, error: VersionQuarantined
    ) -> Stored | Planned:
        """Return what a reference names that is out of use, or was made of what is."""
        named = self._catalogue.named_version(reference, caller=caller)
        if isinstance(named, AdapterVersion):
            return Stored(named.digest, named.base)
        if named is None:
            raise error
        return Planned(Recipe.parse(named.recipe_text), expression=named.expression)

    def _with_quarantined(self, asked: Composition, caller: Caller) -> Planned:
        """Plan a composition whose ingredients may be out of use."""
        asked = self.resolver.rounded(asked)
        members = []
        for term in asked.expression.terms:
            version = self._catalogue.adapter_version(term.reference, caller=caller)
            members.append(
                Member(
                    str(term.reference), version.digest, term.weight, version.base,
                    shapes_of(version.modules), term.patterns,
                )
            )  # fmt: skip
        recipe = self.resolver.recipe_of(asked.expression, members, dtype=asked.dtype)
        return Planned(recipe, expression=str(asked))

    def _adapter(self, digest: str, caller: Caller, warnings: Sequence[Caution]) -> Explanation:
        version = self._by_digest(digest, caller)
        part = Part(_name(version), digest, 1.0, version.rank, version.norm, 1.0)
        return Explanation(
            "adapter", version.base, artifact=digest, rank=version.rank, nbytes=version.bytes,
            ingredients=(part,), cosines=((1.0,),), warnings=tuple(warnings),
        )  # fmt: skip

    def _writings(self, asked: Composition | None, target: Stored | Planned) -> Mapping[str, Any]:
        """Return a merge's two writings, with the references and options that were asked for."""
        if asked is not None:
            named: Composition | None = self.resolver.rounded(asked)
        else:
            named = read_saved(target.expression) if isinstance(target, Planned) else None
        if named is None:
            return {}
        return {"expression": named.as_expression(), "composition": named.to_json()}

    def _merge(self, recipe: Recipe, caller: Caller, warnings: list[Caution]) -> Explanation:
        from merge.forecast import forecast  # here: it imports torch

        registry = self.resolver.registry
        versions = [self._by_digest(item.digest, caller) for item in recipe.ingredients]
        modules = {version.digest: shapes_of(version.modules) for version in versions}
        expected = forecast(recipe, modules, threads=self.threads)
        equalised = dict(recipe.options).get("equalise") is not None
        parts = _parts(recipe.ingredients, versions, equalised=equalised)
        key = recipe.digest()
        built = registry.compositions.artifact_of(key)
        report = None if built is None else self._catalogue.artifact(built, caller=caller).report
        template = mixed_templates(registry, recipe.base, list(modules))
        # What an ingredient was made of may be quarantined, too: then only the error says so.
        warnings = [*(_out_of_use(versions) or warnings), *_dominating(parts)]
        if template is not None:
            warnings.append(Caution("mixed_templates", template))
        return Explanation(
            "merge", recipe.base,
            method=recipe.method, options=dict(recipe.options), recipe=key, artifact=built,
            rank=expected.rank, nbytes=expected.nbytes, memory_bytes=expected.memory_bytes,
            seconds=expected.seconds, ingredients=parts,
            cosines=registry.search.embeddings.cosines([part.digest for part in parts]),
            warnings=tuple(warnings), report=report,
        )  # fmt: skip

    @property
    def _catalogue(self) -> Catalogue:
        return self.resolver.registry.catalogue

    def _by_digest(self, digest: str, caller: Caller) -> AdapterVersion:
        return self._catalogue.adapter_version(Reference(digest=digest), caller=caller)


def _name(version: AdapterVersion) -> str:
    return f"{version.name}@{version.number}"


def _parts(
    items: Sequence[Ingredient], versions: Sequence[AdapterVersion], *, equalised: bool
) -> tuple[Part, ...]:
    sizes = [
        _size(item, version) / (version.norm if equalised and version.norm else 1.0)
        for item, version in zip(items, versions, strict=True)
    ]
    total = math.fsum(sizes)
    return tuple(
        Part(
            _name(version), item.digest, item.weight, version.rank, version.norm,
            size / total if total else 0.0,
        )
        for item, version, size in zip(items, versions, sizes, strict=True)
    )  # fmt: skip


def _size(item: Ingredient, version: AdapterVersion) -> float:
    """Return |weight · update|, with the weight of each module."""
    norms = (version.report.get("facts") or {}).get("norms") or {}
    if not item.patterns or not norms:
        return abs(item.weight) * version.norm
    return math.sqrt(math.fsum((item.weight_in(name) * norm) ** 2 for name, norm in norms.items()))


def _out_of_use(versions: Sequence[AdapterVersion]) -> list[Caution]:
    return [
        Caution(version.status, f"{_name(version)} is {version.status}"
                f"{f' ({version.status_reason})' if version.status_reason else ''}: "
                "requests for this are refused")
        for version in versions
        if version.status != "admitted"
    ]  # fmt: skip


def _dominating(parts: Sequence[Part]) -> list[Caution]:
    if len(parts) < 2:
        return []
    first, second = sorted(parts, key=lambda part: -part.share)[:2]
    if first.share <= _DOMINATES * second.share:
        return []
    return [
        Caution(
            "dominates",
            f"{first.reference} has {first.share:.0%} of the norm, and the next has "
            f"{second.share:.0%}: equal weights do not merge evenly. Lower its "
            "weight, or add equalise=norm.",
        )
    ]
