"""What may be asked: every refusal names the option and what it accepts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.adaptive.options import Options, OptionsInvalid

JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.lists(st.integers(-3, 200), max_size=3),
)  # fmt: skip


def test_defaults_are_the_papers() -> None:
    """Nothing asked is the recycling paper's final method and its target LoRA."""
    options = Options.parse({})

    assert ("recycle", (30,), "evaluation", True) == (
        options.method, options.k, options.selection, options.target,
    )  # fmt: skip
    assert ("module", "leaky_relu", "zero") == (
        options.granularity, options.activation, options.initial,
    )  # fmt: skip
    assert (100, 5e-2, 8, 0.1) == (
        options.steps, options.learning_rate, options.batch_size, options.warm_up,
    )  # fmt: skip
    assert (64, 16.0, 400, 3e-4) == (
        options.fresh_rank, options.fresh_alpha, options.fresh_steps, options.fresh_learning_rate,
    )  # fmt: skip


def test_json_reads_back() -> None:
    """What options say of themselves gives the same options, as text too."""
    options = Options.parse({"k": "10,2", "steps": "50", "target": "false", "pattern": "[0-9]+"})

    assert (2, 10) == options.k
    assert options == Options.parse(options.to_json())


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"stepps": 3}, "no option 'stepps' (did you mean steps?)"),
        ({"steps": 0}, "option steps takes an integer from 1 to 1000, not 0"),
        ({"k": 0}, "option k takes whole numbers from 1 to 100, each once, not 0"),
        ({"k": [3, 3]}, "option k takes whole numbers"),
        ({"k": 1.5}, "option k takes whole numbers"),
        ({"activation": "relu"}, "option activation takes one of linear, softmax"),
        ({"activation": "square"}, "activation square with initial zero has no gradient"),
        ({"pattern": "("}, "pattern: not a regular expression"),
        ({"longest": 1}, "option longest takes a whole number of at least 2"),
        ({"method": "scale", "k": [2, 3]}, "method scale takes one k"),
        ({"recipe": "{}"}, "a recipe is for method scale"),
        ({"cross_terms": True}, "cross_terms is LoraHub's"),
        ({"static_options": 3}, "option static_options takes options of the static method"),
    ],
)
def test_refusals_name_the_option(raw: dict[str, object], said: str) -> None:
    """What is wrong, what is accepted, and what was given."""
    with pytest.raises(OptionsInvalid) as caught:
        Options.parse(raw)

    assert said in str(caught.value)


@given(st.dictionaries(st.sampled_from([*Options.parse({}).to_json(), "x"]), JUNK, max_size=4))
def test_junk_is_refused_or_means_something(raw: dict[str, object]) -> None:
    """Whatever is sent ends in options that read back, or in one kind of error."""
    try:
        options = Options.parse(raw)
    except OptionsInvalid:
        return
    assert options == Options.parse(options.to_json())
