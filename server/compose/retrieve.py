"""`auto(; k=3, method=lego, tag=legal)`: ingredients chosen by searching with the request's text.

After LoraRetriever (arXiv 2402.09997): the system message and the first user message are compared
with the text embedding of each adapter, so a conversation keeps its choice until the registry
changes. To keep it permanently, send the artifact's digest as `model`.
Not covered: choosing by the behaviour of adapters, or by later messages.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from registry.callers import Caller
from registry.search.filters import Condition, parse_filter
from registry.search.finder import Hit
from registry.service import Registry
from server.compose.expression import Expression, OptionValue, Term

NAME = "auto"
MAX_K = 16
_DEFAULT_K = 3
_CONSIDERED = 3  # hits for each adapter of the result: policies may deny some
_DEFAULT_METHOD = "lego"
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
    method: str
    conditions: tuple[Condition, ...]
    options: tuple[tuple[str, OptionValue], ...]  # the method's own

    def expression(self, hits: tuple[Hit, ...]) -> Expression:
        """Return the expression that merges the hits with equal weights."""
        terms = tuple(Term(1.0, hit.as_reference()) for hit in hits)
        return Expression(self.method, terms, self.options)


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
    method = options.pop("method", _DEFAULT_METHOD)
    if not isinstance(method, str):
        raise RetrievalInvalid(f"{NAME}: method must be the name of a merge method, not {method}.")
    return Retrieval(k, method, _conditions(options), tuple(options.items()))


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
) -> tuple[Hit, ...]:
    """Return up to `retrieval.k` adapters for `base` that match the prompt, best first.

    Adapters that a policy keeps out of a merge with better ones are passed over.

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
    hits = registry.search.finder.search(
        prompt[:_PROMPT_CHARACTERS], where=where, limit=_CONSIDERED * retrieval.k, caller=caller
    )
    by_digest: dict[str, Hit] = {}
    for hit in hits:
        by_digest.setdefault(hit.digest, hit)
    admitted = registry.access.policies.admissible(list(by_digest), retrieval.k)
    if not admitted:
        raise NothingFound(base)
    return tuple(by_digest[digest] for digest in admitted)
