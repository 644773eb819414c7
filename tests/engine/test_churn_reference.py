"""The reference of the churn: it knows PEFT's answers from others."""

import pytest

from tests.engine.churn.check import Reference
from tests.engine.gateway import BASE, END
from tests.engine.oracle import Oracle, folder_of
from tests.lab.tokenizer import build_tokenizer

PROMPTS = ["zorp: abc", "zorp: weft"]


@pytest.mark.slow
def test_the_reference_knows_greedy_answers(oracle: Oracle) -> None:
    """PEFT's own answers are greedy for the adapter's files, and for the base; answers of the base
    are not the adapter's, and an answer without its end is still greedy as far as it goes."""
    reference = Reference(oracle)
    adapted = oracle.adapter_tokens("zorp", PROMPTS)
    plain = oracle.base_tokens(PROMPTS)
    right = {prompt: [(*t, END), tuple(t)] for prompt, t in zip(PROMPTS, adapted, strict=True)}
    wrong = {prompt: [(*t, END)] for prompt, t in zip(PROMPTS, plain, strict=True)}

    assert "ABC"[::-1] == build_tokenizer().decode(adapted[0])
    assert [] == reference.wrong("d" * 64, folder_of("zorp"), right)
    assert [] == reference.wrong(BASE, folder_of("zorp"), wrong)
    problems = reference.wrong("d" * 64, folder_of("zorp"), wrong)
    assert len(PROMPTS) == len(problems)
    assert "dddddddddddd answered 'zorp: abc'" in problems[0]
