"""Served answers equal PEFT's: greedy, float32, token for token."""

from itertools import cycle

import pytest

from merge.methods import METHODS
from tests.engine.gateway import ADAPTERS, BASE, Weft
from tests.engine.oracle import Oracle
from tests.lab.language import TASKS

PROMPTS = 50
# Methods whose merge of one adapter is that adapter.
FAITHFUL = [name for name in sorted(METHODS) if "identity" not in METHODS[name].exempt]


def prompts_of(name: str, count: int = PROMPTS) -> list[str]:
    """Return held-out prompts of a skill."""
    return [example.prompt for example in TASKS[name].prompts(count, seed=7)]


@pytest.mark.parametrize("name", ADAPTERS)
async def test_adapter(weft: Weft, oracle: Oracle, name: str) -> None:
    """Every demo adapter answers 50 prompts as PEFT does."""
    prompts = prompts_of(name)

    assert oracle.adapter_tokens(name, prompts) == await weft.tokens(name, prompts)


async def test_base(weft: Weft, oracle: Oracle) -> None:
    """The base answers as transformers does."""
    prompts = prompts_of("zorp")

    assert oracle.base_tokens(prompts) == await weft.tokens(BASE, prompts)


@pytest.mark.parametrize(
    ("expression", "names", "weights"),
    [
        ("cat(zorp, blim)", ["zorp", "blim"], [1.0, 1.0]),
        ("cat(plov, tref, -0.5*krun)", ["plov", "tref", "krun"], [1.0, 1.0, -0.5]),
    ],
)
async def test_cat(
    weft: Weft, oracle: Oracle, expression: str, names: list[str], weights: list[float]
) -> None:
    """`cat` answers as PEFT's `cat`: mixed ranks and module sets, rsLoRA, a negative weight."""
    prompts = [prompt for name in names for prompt in prompts_of(name, 20)]

    assert oracle.cat_tokens(names, weights, prompts) == await weft.tokens(expression, prompts)


@pytest.mark.parametrize(("method", "name"), list(zip(FAITHFUL, cycle(["zorp", "plov", "tref"]))))
async def test_merge_of_one(weft: Weft, oracle: Oracle, method: str, name: str) -> None:
    """A merge of one adapter at weight 1 answers as that adapter, for every method that the
    identity law covers; methods with a density run at density 1.
    """
    prompts = prompts_of(name, 20)
    whole = "; density=1" if "density" in METHODS[method].parameters else ""
    expression = f"{method}({name}{whole})"

    assert oracle.adapter_tokens(name, prompts) == await weft.tokens(expression, prompts)


async def test_exact_sum_by_linear(weft: Weft, oracle: Oracle) -> None:
    """`linear` at full rank, and the sum that stands for it, answer as the exact sum."""
    prompts = prompts_of("zorp", 25) + prompts_of("blim", 25)
    expected = oracle.cat_tokens(["zorp", "blim"], [0.7, 0.6], prompts)

    assert expected == await weft.tokens("linear(0.7*zorp, 0.6*blim; rank=16)", prompts)
    assert expected == await weft.tokens("0.7*zorp + 0.6*blim", prompts)
