"""Options of a job: names, defaults, and refusals that say which values are valid."""

import json
from contextlib import suppress
from dataclasses import fields
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merge.adaptive.options import (
    MAX_FOLDS,
    MAX_K,
    Activation,
    Design,
    Granularity,
    Initial,
    Method,
    Options,
    OptionsInvalid,
    Selection,
)

NAMES = [each.name for each in fields(Options)]
COUNT, SHARE = st.integers(1, 1000), st.floats(0.0, 1.0)
POSITIVE = st.floats(min_value=1e-300, allow_infinity=False, exclude_min=True)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@st.composite
def wishes(draw: st.DrawFn) -> dict[str, Any]:
    """Return options that are valid together, with some left out."""
    method = draw(st.sampled_from(get_args(Method)))
    most = 1 if method == "scale" else 5
    activation = draw(st.sampled_from(get_args(Activation)))
    begins = ("uniform", "normal", "root_k") if activation == "square" else get_args(Initial)
    known: dict[str, st.SearchStrategy[Any]] = {
        "k": st.lists(st.integers(1, MAX_K), min_size=1, max_size=most, unique=True),
        "selection": st.sampled_from(get_args(Selection)),
        "target": st.booleans(), "granularity": st.sampled_from(get_args(Granularity)),
        "steps": COUNT, "learning_rate": POSITIVE, "batch_size": COUNT, "warm_up": SHARE,
        "evaluate_every": COUNT, "l1": SHARE, "budget": COUNT, "bound": POSITIVE,
        "cross_terms": st.just(False) if method != "lorahub" else st.booleans(),
        "recipe": st.none() if method != "scale" else st.none() | st.text(min_size=1),
        "static": st.text(min_size=1), "fresh_rank": COUNT, "fresh_alpha": POSITIVE,
        "static_options": st.dictionaries(st.text(), PLAIN.filter(lambda x: x == x), max_size=2),
        "fresh_dropout": SHARE, "fresh_steps": COUNT, "fresh_learning_rate": POSITIVE,
        "folds": st.none() | st.just(0) | st.integers(2, MAX_FOLDS), "fold_hours": POSITIVE,
        "reality_check": st.booleans(), "pattern": st.none() | st.sampled_from([r"\d+", "(a|b)"]),
        "longest_answer": COUNT, "longest": st.integers(2, 10**6),
        "seed": st.integers(0, 2**63 - 1),
    }  # fmt: skip
    found = {name: draw(each) for name, each in known.items() if draw(st.booleans())}
    return found | {
        "method": method, "activation": activation, "initial": draw(st.sampled_from(begins)),
    }  # fmt: skip


@settings(deadline=None)
@given(wishes())
def test_json_is_the_inverse_of_parsing(wish: dict[str, Any]) -> None:
    """Every option reads back from JSON unchanged, and an option left out has its default."""
    options = Options.parse(wish)
    told = json.loads(json.dumps(options.to_json()))

    assert options == Options.parse(told)
    assert set(NAMES) == told.keys()
    defaults = Options(method=options.method).to_json()
    asked = {**wish, "k": sorted(wish["k"])} if "k" in wish else wish
    assert defaults | asked == told


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=12), JSON, max_size=4))
def test_junk_ends_in_a_refusal_only(junk: dict[str, Any]) -> None:
    """Any JSON parses to options or raises OptionsInvalid, and no other error."""
    with suppress(OptionsInvalid):
        options = Options.parse(junk)
        assert options == Options.parse(options.to_json())


def test_defaults_are_the_papers() -> None:
    """The defaults are the values of arXiv 2602.12323 and 2307.13269."""
    options = Options.parse({})

    assert ("recycle", (30,), "evaluation", True) == (
        options.method, options.k, options.selection, options.target,
    )  # fmt: skip
    assert Design("module", "leaky_relu", "zero", 0) == options.design
    assert (100, 5e-2, 8, 0.1, 10) == (
        options.steps, options.learning_rate, options.batch_size, options.warm_up,
        options.evaluate_every,
    )  # fmt: skip
    assert (100, 1.5) == (options.budget, options.bound)
    assert (64, 16.0, 0.1, 400, 3e-4) == (
        options.fresh_rank, options.fresh_alpha, options.fresh_dropout, options.fresh_steps,
        options.fresh_learning_rate,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("k", "10, 5", (5, 10)), ("k", "7", (7,)), ("k", 7, (7,)), ("k", [7.0], (7,)),
        ("target", "false", False), ("steps", "20", 20), ("learning_rate", "5e-2", 0.05),
        ("seed", "9223372036854775807", 2**63 - 1), ("warm_up", "0", 0.0),
    ],
)  # fmt: skip
def test_text_is_read_as_json_is(name: str, text: object, value: object) -> None:
    """The command line's text and a request's JSON give the same option."""
    assert value == getattr(Options.parse({name: text}), name)


@pytest.mark.parametrize(
    ("name", "value", "accepts"),
    [
        ("method", "lora_hub", "one of recycle, lorahub, scale"),
        ("k", 0, "whole numbers from 1 to 100, each once"),
        ("k", "5,5", "whole numbers from 1 to 100, each once"),
        ("k", [], "whole numbers from 1 to 100, each once"),
        ("k", True, "whole numbers from 1 to 100, each once"),
        ("k", [5, None], "whole numbers from 1 to 100, each once"),
        ("k", 5.5, "whole numbers from 1 to 100, each once"),
        ("selection", "best", "one of evaluation, random, weights, text"),
        ("target", "yes", "true or false"),
        ("steps", 0, "an integer from 1 to 1000"),
        ("steps", 10**400, "an integer from 1 to 1000"),
        ("learning_rate", "nan", "a finite number above 0"),
        ("warm_up", 1.5, "a number from 0 to 1"),
        ("longest", 1, "a whole number of at least 2"),
        ("seed", -1, "an integer from 0 to 2\\^63 - 1"),
        ("static", None, "a text"),
        ("pattern", "", "a text"),
        ("static_options", ["rank"], "options of the static method, by name"),
    ],
)
def test_a_refusal_names_the_option_and_what_it_takes(
    name: str, value: object, accepts: str
) -> None:
    """An invalid value is refused with the option's name, its valid values and the value given."""
    with pytest.raises(OptionsInvalid, match=f"option {name} takes {accepts}, not ") as caught:
        Options.parse({name: value})

    assert len(str(caught.value)) < 300


def test_an_unknown_option_is_told_near_ones() -> None:
    """An unknown option is refused with the name of a similar option."""
    with pytest.raises(OptionsInvalid, match=r"no option 'learing_rate' \(did you mean learning_r"):
        Options.parse({"learing_rate": 1.0})


@pytest.mark.parametrize("pattern", ["(", "a{1001}", "x" * 1001, "(?=a)b"])
def test_a_pattern_must_be_one(pattern: str) -> None:
    """An invalid or very long regular expression is refused before anything runs."""
    with pytest.raises(OptionsInvalid, match="pattern: "):
        Options.parse({"pattern": pattern})


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"activation": "square"}, "no gradient at the zeros of initial zero: use uniform"),
        (
            {"activation": "square", "initial": "one_hot"},
            "no gradient at the zeros of initial one_hot",
        ),
        ({"method": "scale", "k": [2, 3]}, "scale takes one k"),
        ({"recipe": "{}"}, "a recipe is for method scale; recycle makes its own"),
        ({"cross_terms": True}, "cross_terms is LoraHub's"),
    ],
)
def test_options_must_agree(wish: dict[str, Any], says: str) -> None:
    """Two options that exclude each other are refused with a way to resolve the conflict."""
    with pytest.raises(OptionsInvalid, match=says):
        Options.parse(wish)


@pytest.mark.parametrize(
    ("wish", "targeted", "fresh"),
    [
        ({}, True, True),
        ({"target": False}, False, True),
        ({"target": False, "reality_check": False}, False, False),
        ({"method": "scale", "reality_check": False}, False, False),
        ({"method": "scale", "reality_check": False, "selection": "weights"}, False, True),
    ],
)
def test_a_fresh_lora_is_trained_where_something_needs_it(
    wish: dict[str, Any], targeted: bool, fresh: bool
) -> None:
    """The target, the controls and selection by weights need a fresh LoRA; a static recipe does
    not."""
    options = Options.parse(wish)

    assert (targeted, fresh) == (options.targeted, options.needs_fresh)
