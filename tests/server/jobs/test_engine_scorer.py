"""Scores of what the engine answers."""

import pytest

from merge.adaptive.scoring.examples import Example
from server.jobs.engine_scorer import ScoringFailed, score
from tests.server.conftest import BASE
from tests.server.jobs.engine import ANSWER, LOGPROB, ScoringEngine

EXAMPLE = Example(tokens=(1, 2, 3, 4), labels=(-100, -100, 3, 4), prompt=(1, 2), answer="yes")


async def test_a_score_has_what_was_learned_measured_again(engine: ScoringEngine) -> None:
    """A score has losses over the answer's tokens, exact matches and pattern matches."""
    scored = await score(engine, BASE, [EXAMPLE], pattern="[a-z]+", longest_answer=8, salt="s")
    assert ((-2 * LOGPROB,), (2,), (True,)) == (scored.nll, scored.tokens, scored.exact_match)
    assert {"s"} == {body["cache_salt"] for body in engine.bodies}
    assert (False,) == scored.pattern_match, f"es is found in {ANSWER}"


async def test_what_the_engine_refuses_is_its_sentence(engine: ScoringEngine) -> None:
    """A refusal by the engine keeps its message and does not fail the job."""
    engine.silent = True
    with pytest.raises(ScoringFailed, match="left log-probabilities out"):
        await score(engine, BASE, [EXAMPLE], pattern=None, longest_answer=8, salt="s")
