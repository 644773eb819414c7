"""Rules on compositions, and their judgement: plain values, without SQL.

    selector = "any" | "tag:" TAG | "namespace:" NAMESPACE | "adapter:" NAME

A rule with one selector is about every ingredient that it matches; a rule with two is about every
pair of different ingredients of which one matches the first and the other the second. What a `deny`
rule matches is refused, unless an `allow` rule with the same number of selectors matches it, too.
The order of rules does not matter.

An ingredient is a content: a selector matches it if it matches any name that has the content, so
that a second name does not evade a rule.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import TypeAlias

from registry.errors import NameInvalid, PolicyInvalid
from registry.references import check_name
from registry.types import PolicyAction

Selectors: TypeAlias = tuple[str] | tuple[str, str]
ANY = "any"
_TAG = re.compile(r"[a-z0-9][a-z0-9._:-]{0,59}")
_NAMESPACE = re.compile(r"[a-z][a-z0-9._-]{0,59}")


@dataclass(frozen=True, slots=True)
class Policy:
    """A rule on compositions."""

    id: int
    action: PolicyAction
    selectors: Selectors
    reason: str
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True)
class Part:
    """A content in a composition, by its digest, and the ingredient that it came with.

    `facts` are the selectors that match the content. A published merge is a part, and so is
    everything that it was merged from; all of these have the same `ingredient`.
    """

    content: str
    ingredient: str  # as the caller wrote it
    facts: frozenset[str]


@dataclass(frozen=True, slots=True)
class Denial:
    """The rule that refuses a composition, and the ingredients that it is about."""

    policy: Policy
    ingredients: tuple[str, ...]


def check_selector(text: str) -> str:
    """Return a selector.

    Raises:
        PolicyInvalid: it violates the grammar above.
    """
    kind, _, word = text.partition(":")
    try:
        if kind == "adapter":
            check_name(word)
            return text
    except NameInvalid as error:
        raise PolicyInvalid(text[:100], str(error)) from error
    if text == ANY or (kind == "tag" and _TAG.fullmatch(word)):
        return text
    if kind == "namespace" and _NAMESPACE.fullmatch(word):
        return text
    raise PolicyInvalid(
        text[:100], "expected any, tag:TAG, namespace:NAMESPACE or adapter:NAME, in lower case"
    )


def facts_of(name: str, tags: Iterable[str]) -> set[str]:
    """Return every selector that matches an adapter with this name and these tags."""
    namespace, slash, _ = name.partition("/")
    facts = {ANY, f"adapter:{name}", *(f"tag:{tag}" for tag in tags)}
    return facts | {f"namespace:{namespace}"} if slash else facts


def judge(policies: Sequence[Policy], parts: Iterable[Part]) -> Denial | None:
    """Return why a composition of these parts is refused, or None if it is not."""
    named = {selector for policy in policies for selector in policy.selectors}
    # Parts that no rule tells apart are judged together: their number does not matter then.
    alike: dict[frozenset[str], list[Part]] = defaultdict(list)
    for part in {part.content: part for part in parts}.values():
        alike[part.facts & named].append(part)
    allowed = [policy.selectors for policy in policies if policy.action == "allow"]
    for policy in policies:
        if policy.action == "deny":
            matched = _matched(policy.selectors, alike, allowed)
            if matched is not None:
                return Denial(policy, tuple(dict.fromkeys(part.ingredient for part in matched)))
    return None


def _matched(
    selectors: Selectors,
    alike: Mapping[frozenset[str], Sequence[Part]],
    allowed: Sequence[Selectors],
) -> tuple[Part, ...] | None:
    """Return the first part or pair that selectors match and no allowed selectors do."""
    groups = ([facts for facts in alike if selector in facts] for selector in selectors)
    for facts in product(*groups):
        parts = _different(facts, alike)
        if parts and not any(_matches(lift, facts) for lift in allowed):
            return parts
    return None


def _different(
    facts: tuple[frozenset[str], ...], alike: Mapping[frozenset[str], Sequence[Part]]
) -> tuple[Part, ...]:
    """Return one part of each group, different ones; nothing if a group has too few."""
    if len(set(facts)) == len(facts):
        return tuple(alike[group][0] for group in facts)
    return tuple(alike[facts[0]][:2]) if len(alike[facts[0]]) > 1 else ()


def _matches(selectors: Selectors, facts: tuple[frozenset[str], ...]) -> bool:
    """Return whether selectors match these parts, in either order."""
    if len(selectors) != len(facts):
        return False
    return any(
        all(selector in own for selector, own in zip(selectors, order, strict=True))
        for order in (facts, facts[::-1])
    )
