"""Rules on compositions: their grammar, and what they refuse."""

from collections.abc import Sequence

import pytest

from registry.access.policy_rules import Part, Policy, check_selector, facts_of, judge
from registry.errors import PolicyInvalid
from registry.storage.columns import now
from registry.types import PolicyAction

LEGAL = Part("1", "legal", frozenset(facts_of("acme/legal", ["law", "vetted"])))
SQL = Part("2", "sql", frozenset(facts_of("sql", ["code"])))
WILD = Part("3", "wild", frozenset(facts_of("other/wild", ["uncensored"])))


def rules(*texts: str) -> list[Policy]:
    """Return rules such as `deny tag:law`."""
    made = []
    for number, text in enumerate(texts, 1):
        word, *selectors = text.split()
        action: PolicyAction = "allow" if word == "allow" else "deny"
        pair = (selectors[0],) if len(selectors) == 1 else (selectors[0], selectors[1])
        made.append(Policy(number, action, pair, "why", now(), "ada"))
    return made


@pytest.mark.parametrize(
    ("texts", "parts", "number", "ingredients"),
    [
        ([], [LEGAL, WILD], None, ()),
        (["deny tag:uncensored"], [LEGAL, SQL], None, ()),
        (["deny tag:uncensored"], [LEGAL, WILD], 1, ("wild",)),
        (["deny namespace:acme"], [LEGAL, SQL], 1, ("legal",)),
        (["deny adapter:sql"], [LEGAL, SQL], 1, ("sql",)),
        (["deny any", "allow namespace:acme"], [LEGAL], None, ()),
        (["deny any", "allow namespace:acme"], [LEGAL, SQL], 1, ("sql",)),
        (["allow tag:vetted", "deny tag:law"], [LEGAL], None, ()),
        (["deny tag:law tag:code"], [LEGAL, WILD], None, ()),
        (["deny tag:law tag:code"], [LEGAL, SQL], 1, ("legal", "sql")),
        (["deny tag:law tag:code"], [SQL, LEGAL], 1, ("legal", "sql")),
        (["deny tag:law tag:vetted"], [LEGAL, SQL], None, ()),  # one adapter is no pair
        (["deny any any", "allow tag:code tag:law"], [LEGAL, SQL], None, ()),
        (["deny any any", "allow tag:code tag:law"], [LEGAL, SQL, WILD], 1, ("legal", "wild")),
        (["deny any any"], [LEGAL, LEGAL], None, ()),  # the same content twice
        (["deny tag:law tag:code", "allow tag:law"], [LEGAL, SQL], 1, ("legal", "sql")),
        (["deny tag:x", "deny tag:code"], [SQL], 2, ("sql",)),
    ],
)
def test_rules_refuse_what_they_match(
    texts: Sequence[str], parts: Sequence[Part], number: int | None, ingredients: tuple[str, ...]
) -> None:
    """A deny rule refuses what it matches, unless an allow rule of its kind matches it, too."""
    denial = judge(rules(*texts), parts)
    assert number == (denial.policy.id if denial else None)
    assert ingredients == (denial.ingredients if denial else ())


def test_a_thousand_ingredients_are_judged_quickly() -> None:
    """The time of a judgement does not grow with the square of the ingredients."""
    parts = [
        Part(str(n), str(n), frozenset(facts_of(f"pool/a{n}", [f"t{n % 7}"]))) for n in range(1000)
    ]
    lifted = [f"allow tag:t{i} tag:t{j}" for i in range(7) for j in range(7)]
    assert judge(rules("deny namespace:pool any", *lifted), parts) is None


@pytest.mark.parametrize(
    "text",
    ["", "law", "tag:", "tag:Law", "tag:a b", "namespace:a/b", "adapter:A", "adapter:", "any:x",
     "tag:" + "a" * 61, "colour:red", "tag:a\n"],
)  # fmt: skip
def test_malformed_selectors_are_refused(text: str) -> None:
    """A selector that cannot match anything is refused, with what is expected."""
    with pytest.raises(PolicyInvalid, match="cannot be part of a policy"):
        check_selector(text)


@pytest.mark.parametrize("text", ["any", "tag:law:eu", "namespace:acme", "adapter:acme/legal"])
def test_selectors_are_read(text: str) -> None:
    """A well-formed selector stays as it is."""
    assert text == check_selector(text)
