"""`auto(; k=3, method=ties, tag=legal)`: ingredients chosen by searching with the request's text.

After LoraRetriever (arXiv 2402.09997): the system message and the first user message are compared
with the text embedding of each adapter, of which its examples are a half, so a conversation keeps
its choice until the registry changes. To keep it permanently, send the artifact's digest as
`model`. Weights are those of TTMM (arXiv 2505.14136), and where nothing is near the base answers.
The default method keeps most of the ingredients on the lab's real base
(tests/lab/results/2026-11-30-skills-second-round).
Not covered: choosing by the behaviour of adapters, or by later messages.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from registry.callers import Caller
from registry.search.filters import Condition, parse_filter
from registry.search.finder import Hit
from registry.service import Registry
from server.compose.expression import Expression, OptionValue, Term

NAME = "auto"
MAX_K = 16
_DEFAULT_K = 3
_CONSIDERED = 3  # hits for each adapter of the result: policies may deny some
_DEFAULT_METHOD = "actmat"
_DEFAULT_OPTIONS: Mapping[str, OptionValue] = {"ridge": 0.01}  # of the default method
Weights = Literal["near", "equal"]
# TTMM's: exp(-(1 - cosine) / β²) with β = 0.2, over at most 50 adapters; less than τ is dropped.
_BETA_SQUARED = 0.04
_TAU = 0.01
_MOST = 50
# With the hashing encoder: prompts that name a demo adapter are 0.12 to 0.25 from its card, ones
# about other things up to 0.12 from any of eight (tests/lab/results/2026-11-29-retrieval).
DEFAULT_NEAR = 0.15
# Encoders read only the beginning of a text, so the rest cannot change the choice.
_PROMPT_CHARACTERS = 8000


class RetrievalInvalid(ValueError):
    """The `auto(…)` expression cannot be carried out."""


class NothingFound(Exception):
    """No adapter in the registry matches the `auto(…)` expression."""

    def __init__(self, base: str) -> None:
        super().__init__(
            f"No adapter for {base} matches. Relax the tag or the filter, or import an adapter."
        )


@dataclass(frozen=True, slots=True)
class Retrieval:
    """An `auto(…)` expression: up to `k` adapters under conditions, merged by a method."""

    k: int
    weights: Weights
    near: float  # the least cosine of an adapter that is taken; -1: any
    method: str
    conditions: tuple[Condition, ...]
    options: tuple[tuple[str, OptionValue], ...]  # the method's own
    base: str | None = None  # in any spelling; None: the server's first one

    def expression(self, hits: Sequence[Hit]) -> Expression:
        """Return the expression that merges the hits, best first."""
        weights = [1.0] * len(hits) if self.weights == "equal" else nearness(_scores(hits))
        terms = (
            Term(weight, hit.as_reference()) for weight, hit in zip(weights, hits, strict=True)
        )
        return Expression(self.method, tuple(terms), self.options)


@dataclass(frozen=True, slots=True)
class NothingNear:
    """Adapters match the conditions, and none is near the prompt: the base answers."""

    nearest: str
    cosine: float
    near: float

    def __str__(self) -> str:
        """Say why, in the characters of a header."""
        return (
            f"base; {NAME} takes adapters with a cosine of {self.near:g} or more, and the nearest, "
            f"{self.nearest}, has {self.cosine:.2f}"
        )


def nearness(cosines: Sequence[float]) -> list[float]:
    """Return the weights of adapters with these cosines to a prompt; their sum is 1."""
    best = max(cosines)
    sizes = [math.exp((cosine - best) / _BETA_SQUARED) for cosine in cosines]
    return [size / math.fsum(sizes) for size in sizes]


def _scores(hits: Sequence[Hit]) -> list[float]:
    return [hit.score for hit in hits]


def is_retrieval(model: str) -> bool:
    """Return whether a `model` field is an `auto(…)` expression, from its first characters."""
    return model.startswith(NAME) and model.removeprefix(NAME).lstrip().startswith("(")


def read_retrieval(expression: Expression) -> Retrieval:
    """Return the retrieval that an `auto(…)` expression describes.

    Raises:
        RetrievalInvalid: it has ingredients, or the value of an option is invalid.
        registry.errors.FilterInvalid: its filter does not parse.
    """
    if expression.terms:
        raise RetrievalInvalid(f"{NAME}() chooses its ingredients itself. Write {NAME}(; k=3).")
    options = dict(expression.options)
    k = options.pop("k", _DEFAULT_K)
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= MAX_K:
        raise RetrievalInvalid(f"{NAME}: k must be an integer from 1 to {MAX_K}, not {k}.")
    weights, near = _weighting(options)
    if "method" not in options:
        options = {"method": _DEFAULT_METHOD, **_DEFAULT_OPTIONS} | options
    method = options.pop("method")
    if not isinstance(method, str):
        raise RetrievalInvalid(f"{NAME}: method must be the name of a merge method, not {method}.")
    base = options.pop("base", None)
    if not (base is None or isinstance(base, str)):
        raise RetrievalInvalid(f"{NAME}: base must be the name of a base, not {base}.")
    conditions = _conditions(options)
    return Retrieval(k, weights, near, method, conditions, tuple(options.items()), base)


def _weighting(options: dict[str, OptionValue]) -> tuple[Weights, float]:
    """Remove the options that weight the adapters, and return them; equal weights take any."""
    weights = options.pop("weights", "near")
    if weights not in get_args(Weights):
        raise RetrievalInvalid(f"{NAME}: weights must be near or equal, not {weights}.")
    chosen: Weights = "equal" if weights == "equal" else "near"
    near = options.pop("near", DEFAULT_NEAR if chosen == "near" else -1.0)
    if isinstance(near, bool) or not isinstance(near, int | float) or not -1 <= near <= 1:
        raise RetrievalInvalid(f"{NAME}: near must be a number from -1 to 1, not {near}.")
    return chosen, float(near)


def _conditions(options: dict[str, OptionValue]) -> tuple[Condition, ...]:
    """Remove the options that restrict the adapters, and return them as conditions."""
    restrictions: Mapping[str, OptionValue] = {
        name: options.pop(name) for name in ("tag", "filter") if name in options
    }
    conditions = parse_filter(str(restrictions.get("filter", "")))
    if any(condition.field == "status" for condition in conditions):
        raise RetrievalInvalid(
            f"{NAME}: only adapters in use can be served. Remove status from the filter."
        )
    if "tag" in restrictions:
        conditions = (*conditions, Condition("tag", "=", (str(restrictions["tag"]).lower(),)))
    return conditions


def retrieve(
    registry: Registry, retrieval: Retrieval, prompt: str, *, base: str, caller: Caller
) -> tuple[Hit, ...] | NothingNear:
    """Return up to `retrieval.k` adapters for `base` that match the prompt, best first.

    Adapters that are not near, or whose weight would be too small, and those that a policy keeps
    out of a merge with better ones are passed over.

    Raises:
        RetrievalInvalid: the prompt has no text.
        NothingFound: no adapter that the caller can see satisfies the conditions, or policies deny
            every one that was considered.
    """
    if not prompt.strip():
        raise RetrievalInvalid(
            f"{NAME} searches by the text of the request, and this request has none."
        )
    where = (*retrieval.conditions, Condition("base", "=", (base,)))
    most = max(_MOST, _CONSIDERED * retrieval.k)
    hits = registry.search.finder.search(
        prompt[:_PROMPT_CHARACTERS], where=where, limit=most, caller=caller
    )
    by_digest: dict[str, Hit] = {}
    for hit in hits:
        by_digest.setdefault(hit.digest, hit)
    admitted = registry.access.policies.admissible(list(by_digest), len(by_digest))
    if not admitted:
        raise NothingFound(base)
    best = [by_digest[digest] for digest in admitted]
    if best[0].score < retrieval.near:
        return NothingNear(best[0].reference, best[0].score, retrieval.near)
    return tuple(_taken(retrieval, best))[: retrieval.k]


def _taken(retrieval: Retrieval, hits: Sequence[Hit]) -> Iterator[Hit]:
    """Yield the hits that are near and whose weight among all of them is large enough."""
    near = [hit for hit in hits if hit.score >= retrieval.near]
    for weight, hit in zip(nearness(_scores(near)), near, strict=True):
        if retrieval.weights == "equal" or weight >= _TAU:
            yield hit
