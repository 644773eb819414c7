"""Policies: which adapters may be merged with which. Rules are in `registry.access.policy_rules`.

A merge is checked when a request names it, whether it is an expression, a composition, an artifact
or a merge that was published as an adapter: a new rule applies to what was merged before it. A
check looks at all contents, also those that the caller cannot see; its error shows none of them.

Not covered: single adapters that were not merged here, which are served whatever the rules say.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from registry.access import audit
from registry.access import policy_queries as queries
from registry.access.policy_rules import (
    ANY,
    Part,
    Policy,
    check_selector,
    facts_of,
    judge,
)
from registry.callers import Caller
from registry.errors import AccessDenied, CompositionDenied, PolicyInvalid, UnknownPolicy
from registry.paging import Page, key_of, paged
from registry.storage.columns import now
from registry.storage.database import Database, ReadSession, WriteSession
from registry.storage.insert import insert
from registry.storage.policy_models import PolicyRow
from registry.types import Action, PolicyAction

MAX_POLICIES = 200  # every request for a merge reads all of them
MAX_REASON = 500


class Policies:
    """The rules on compositions. Threads may share one instance."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, action: PolicyAction, selectors: Sequence[str], *, reason: str, actor: str = "local"
    ) -> Policy:
        """Add a rule; a rule that exists is returned as it is.

        Args:
            action: what to do with what it matches.
            selectors: one for ingredients, two for pairs of them.
            reason: shown to everybody whose composition is refused.
            actor: the author to record.

        Raises:
            PolicyInvalid: a selector or the reason is malformed, or there are too many rules.
        """
        first, second = _checked(selectors)
        if not reason.strip() or len(reason) > MAX_REASON or not reason.isprintable():
            raise PolicyInvalid(reason[:100], f"expected a reason of 1 to {MAX_REASON} characters")
        with self._database.transaction() as session:
            rows = queries.policies(session)
            for row in rows:
                if (row.action, row.first, row.second) == (action, first, second):
                    return _policy(row)
            if len(rows) >= MAX_POLICIES:
                raise PolicyInvalid(first, f"expected at most {MAX_POLICIES} policies")
            row = PolicyRow(
                action=action, first=first, second=second, reason=reason, created_at=now(),
                created_by=actor,
            )  # fmt: skip
            insert(session, row)
            _record(session, actor, "policy.added", row)
            return _policy(row)

    def remove(self, number: int, *, actor: str = "local") -> None:
        """Remove a rule.

        Raises:
            UnknownPolicy: there is no such rule.
        """
        with self._database.transaction() as session:
            row = queries.policy(session, number)
            if row is None:
                raise UnknownPolicy(number)
            _record(session, actor, "policy.removed", row)
            queries.remove_policy(session, number)

    def page(self, *, cursor: str | None = None, limit: int = 100) -> Page[Policy]:
        """Return the rules, oldest first.

        Raises:
            CursorInvalid: the cursor does not belong to this list.
        """
        after = key_of("policies", cursor, int) or 0
        with self._database.read() as session:
            rows = [row for row in queries.policies(session) if row.id > after][: limit + 1]
            return paged("policies", rows, limit, lambda row: row.id, _policy)

    def check(self, ingredients: Mapping[str, str]) -> None:
        """Raise CompositionDenied if a rule refuses a merge of ingredients.

        `ingredients` maps the digest of each to its text in the error.
        """
        with self._database.read() as session:
            check_merge(session, ingredients)

    def admissible(self, digests: Sequence[str], limit: int) -> tuple[str, ...]:
        """Return the first of these contents that may all be merged with each other, in order.

        A content that a rule refuses beside the ones before it is left out.
        """
        with self._database.read() as session:
            rules = _rules(session)
            if not rules:
                return tuple(digests[:limit])
            parts = _parts(session, {digest: digest for digest in digests})
        admitted: list[str] = []
        for digest in digests:
            together = [part for name in (*admitted, digest) for part in parts[name]]
            if len(admitted) < limit and judge(rules, together) is None:
                admitted.append(digest)
        return tuple(admitted)

    def usable(self, digests: Iterable[str]) -> set[str]:
        """Return the contents that some merge may have as an ingredient: no rule refuses them."""
        digests = list(digests)
        with self._database.read() as session:
            rules = _rules(session)
            if not rules:
                return set(digests)
            parts = _parts(session, {digest: digest for digest in digests})
        return {digest for digest in digests if judge(rules, parts[digest]) is None}


def check_merge(session: ReadSession, ingredients: Mapping[str, str]) -> None:
    """Raise CompositionDenied if a rule refuses a merge; `ingredients` is as in `Policies`."""
    rules = _rules(session)
    if rules:
        parts = _parts(session, ingredients)
        _refuse(rules, [part for own in parts.values() for part in own])


def check_recipe(session: ReadSession, recipe: str, text: str) -> None:
    """Raise CompositionDenied if a rule refuses the recipe with this digest, named `text`."""
    rules = _rules(session)
    if rules:
        ingredients = dict.fromkeys(queries.ingredients(session, recipe), text)
        _refuse(rules, [part for own in _parts(session, ingredients).values() for part in own])


def check_content(session: ReadSession, digest: str, text: str) -> None:
    """Raise CompositionDenied if a content is a merge that a rule refuses."""
    sources = queries.sources(session, [digest])[digest] - {digest}
    rules = _rules(session) if sources else []  # most contents are adapters, made of nothing
    if rules:
        _refuse(rules, _facts(session, dict.fromkeys(sources, text)).values())


def check_tags(session: ReadSession, tags: Iterable[str], caller: Caller) -> None:
    """Raise AccessDenied if a rule names one of the tags and the caller may not change rules.

    An owner could otherwise lift a rule from an adapter by removing its tag.
    """
    named = {selector for policy in _rules(session) for selector in policy.selectors}
    ruled = sorted(tag for tag in tags if f"tag:{tag}" in named)
    if ruled and not (caller.has_role("admin") and caller.namespace is None):
        raise AccessDenied(
            f"policies are about the tag {ruled[0]}, so that only admins of the server change it"
        )


def _refuse(rules: Sequence[Policy], parts: Iterable[Part]) -> None:
    denial = judge(rules, parts)
    if denial is not None:
        raise CompositionDenied(denial.policy.id, denial.policy.reason, denial.ingredients)


def _parts(session: ReadSession, ingredients: Mapping[str, str]) -> dict[str, list[Part]]:
    """Return for each ingredient its own content and all that it was merged from."""
    sources = queries.sources(session, ingredients)
    contents = {digest for own in sources.values() for digest in own}
    facts = _facts(session, dict.fromkeys(contents, ""))
    return {
        digest: [replace(facts[source], ingredient=text) for source in sorted(sources[digest])]
        for digest, text in ingredients.items()
    }


def _facts(session: ReadSession, contents: Mapping[str, str]) -> dict[str, Part]:
    """Return contents as parts; each has the text of the ingredient that it belongs to."""
    names: dict[str, set[str]] = defaultdict(set)
    for digest, name, tag in queries.names_and_tags(session, contents):
        names[digest] |= facts_of(name, () if tag is None else (tag,))
    return {
        digest: Part(digest, text, frozenset(names[digest] | {ANY}))
        for digest, text in contents.items()
    }


def _checked(selectors: Sequence[str]) -> tuple[str, str | None]:
    if len(selectors) not in (1, 2):
        raise PolicyInvalid(" ".join(selectors)[:100], "expected one selector, or two for pairs")
    first, *second = map(check_selector, selectors)
    return first, second[0] if second else None


def _rules(session: ReadSession) -> list[Policy]:
    return [_policy(row) for row in queries.policies(session)]


def _policy(row: PolicyRow) -> Policy:
    selectors = (row.first,) if row.second is None else (row.first, row.second)
    return Policy(row.id, row.action, selectors, row.reason, row.created_at, row.created_by)


def _record(session: WriteSession, actor: str, action: Action, row: PolicyRow) -> None:
    policy = _policy(row)
    audit.record(
        session, actor, action, f"policy-{row.id}", rule=policy.action,
        selectors=list(policy.selectors), reason=policy.reason,
    )  # fmt: skip
