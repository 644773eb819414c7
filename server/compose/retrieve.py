"""`auto(; k=3, method=lego, tag=legal)`: ingredients that the registry chooses by the request.

After LoraRetriever (arXiv 2402.09997): the system message and the first user message are compared
with what is known of each adapter in words, so a conversation keeps its choice for as long as the
registry's revision stays. To keep it for good, send the artifact's digest as `model`.
Not covered: choosing by what adapters do (their behaviour) or by later messages.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from registry.callers import Caller
from registry.search.filters import Condition, parse_filter
from registry.search.finder import Finder, Hit
from server.compose.expression import Expression, OptionValue, Term

NAME = "auto"
MAX_K = 16
_DEFAULT_K = 3
_DEFAULT_METHOD = "lego"
# Encoders read a beginning; what comes after cannot change the choice.
_PROMPT_CHARACTERS = 8000


class RetrievalInvalid(ValueError):
    """An `auto(…)` that cannot be carried out as it is written."""


class NothingFound(Exception):
    """No adapter in the registry fits an `auto(…)`."""

    def __init__(self, base: str) -> None:
        super().__init__(
            f"no adapter for {base} fits; ask for others with tag=… or filter=…, or import some"
        )


@dataclass(frozen=True, slots=True)
class Retrieval:
    """A wish: so many adapters under these conditions, merged by this method."""

    k: int
    method: str
    conditions: tuple[Condition, ...]
    options: tuple[tuple[str, OptionValue], ...]  # the method's own

    def expression(self, hits: tuple[Hit, ...]) -> Expression:
        """Return the expression that merges what was found, all with the same weight."""
        terms = tuple(Term(1.0, hit.as_reference()) for hit in hits)
        return Expression(self.method, terms, self.options)


def read_retrieval(expression: Expression) -> Retrieval:
    """Return the wish that an `auto(…)` states.

    Raises:
        RetrievalInvalid: it has ingredients, or an option of its own cannot be what it is.
        registry.errors.FilterInvalid: its filter cannot be read.
    """
    if expression.terms:
        raise RetrievalInvalid(f"{NAME}() chooses its ingredients: write {NAME}(; k=3)")
    options = dict(expression.options)
    k = options.pop("k", _DEFAULT_K)
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= MAX_K:
        raise RetrievalInvalid(f"{NAME}: k must be a whole number from 1 to {MAX_K}, not {k}")
    method = options.pop("method", _DEFAULT_METHOD)
    if not isinstance(method, str):
        raise RetrievalInvalid(f"{NAME}: method must be a method's name, not {method}")
    return Retrieval(k, method, _conditions(options), tuple(options.items()))


def _conditions(options: dict[str, OptionValue]) -> tuple[Condition, ...]:
    """Take the options that say which adapters may be chosen."""
    given: Mapping[str, OptionValue] = {
        name: options.pop(name) for name in ("tag", "filter") if name in options
    }
    conditions = parse_filter(str(given.get("filter", "")))
    if any(condition.field == "status" for condition in conditions):
        raise RetrievalInvalid(f"{NAME}: what is out of use cannot be served; leave status out")
    if "tag" in given:
        conditions = (*conditions, Condition("tag", "=", (str(given["tag"]).lower(),)))
    return conditions


def retrieve(
    finder: Finder, wish: Retrieval, prompt: str, *, base: str, caller: Caller
) -> tuple[Hit, ...]:
    """Return up to `wish.k` adapters for `base` that fit the prompt, best first.

    Raises:
        RetrievalInvalid: the prompt has no text.
        NothingFound: no adapter that the caller may use satisfies the conditions.
    """
    if not prompt.strip():
        raise RetrievalInvalid(f"{NAME} chooses by the request's text, and this one has none")
    where = (*wish.conditions, Condition("base", "=", (base,)))
    hits = finder.search(prompt[:_PROMPT_CHARACTERS], where=where, limit=wish.k, caller=caller)
    if not hits:
        raise NothingFound(base)
    return hits
