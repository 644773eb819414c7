"""A draft of a composition: its changes, and the `composition` object that it writes and reads."""

import json

import pytest

from server.console.pages.compose.draft import (
    Draft,
    DraftInvalid,
    Ingredient,
    draft_of,
    read_draft,
    write_draft,
)

DRAFT = Draft(
    "lego",
    (Ingredient("legal@prod", 0.7, (("*.mlp.*", 0.2),)), Ingredient("sql")),
    (("rank", 16), ("canonical", True), ("energy", None)),
    dtype="bfloat16",
)


def test_what_a_draft_writes_is_the_draft() -> None:
    """The JSON of a draft is read back as the same draft, types of the options included."""
    assert DRAFT == read_draft(write_draft(DRAFT))
    assert [type(value) for _, value in read_draft(write_draft(DRAFT)).options] == [
        int, bool, type(None),
    ]  # fmt: skip


def test_the_object_is_that_of_a_request() -> None:
    """What is at its default is left out: a weight of 1, no options, no dtype."""
    draft = Draft(ingredients=(Ingredient("legal"), Ingredient("sql", 0.5)))
    expected = {"method": "linear", "adapters": [{"name": "legal"}, {"name": "sql", "weight": 0.5}]}
    assert expected == json.loads(write_draft(draft))
    assert draft == draft_of(expected)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{", "EOF"),
        ('{"method": "linear"}', "adapters"),
        ('{"method": "linear", "adapters": [{"name": "a", "weigth": 2}]}', "adapters.0.weigth"),
        ('{"method": "linear", "adapters": [{"name": "a", "weight": 1e999}]}', "weight"),
        ('{"method": "linear", "adapters": [], "options": {"rank": [1]}}', "options.rank"),
        ("x" * 70_000, "70,000 characters"),
    ],
)
def test_what_is_no_composition_is_told_with_its_place(text: str, place: str) -> None:
    """Text that is no `composition` object is refused with the place that is wrong."""
    with pytest.raises(DraftInvalid, match=place):
        read_draft(text)


def test_an_adapter_is_added_once() -> None:
    """Adding what a draft has changes nothing: its weight is changed by its slider."""
    draft = Draft().add("legal").weigh(0, 0.3)
    assert draft == draft.add("legal")
    assert ["legal", "sql"] == [part.reference for part in draft.add("sql").ingredients]


def test_ingredients_move_and_go() -> None:
    """An ingredient moves up by one, the first stays, and what is removed is gone."""
    draft = Draft().add("a").add("b").add("c")
    moved = draft.move_up(2).move_up(0)
    assert ["a", "c", "b"] == [part.reference for part in moved.ingredients]
    assert ["a", "b"] == [part.reference for part in moved.remove(1).ingredients]


def test_another_method_drops_options_that_it_does_not_have() -> None:
    """Options that two methods share stay when the method changes, and the others go."""
    assert (("rank", 16),) == DRAFT.use("linear", frozenset({"rank", "scale"})).options


def test_an_option_at_its_default_is_not_written() -> None:
    """An option that is set back to its default is left out; a truth value is no number."""
    draft = Draft().choose("scale", 2.0, 1.0)
    assert (("scale", 2.0),) == draft.options
    assert () == draft.choose("scale", 1.0, 1.0).options
    assert (("balance", False),) == Draft().choose("balance", value=False, default=0).options
