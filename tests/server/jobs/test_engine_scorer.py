"""Pattern matches are computed in a child process, where a slow pattern blocks nothing else."""

import pytest

from merge.adaptive.scoring.examples import Example
from server.jobs.engine_scorer import ScoringFailed, score
from server.jobs.patterns import PatternSlow, agreements
from tests.server.conftest import BASE
from tests.server.jobs.engine import ANSWER, LOGPROB, ScoringEngine

EXAMPLE = Example(tokens=(1, 2, 3, 4), labels=(-100, -100, 3, 4), prompt=(1, 2), answer="yes")


def test_a_pattern_s_finds_are_compared() -> None:
    """The first group of a match is compared, or the whole match."""
    pairs = [("so 17 it is", "17"), ("so 18", "17"), ("none", "none")]
    assert (True, False, True) == agreements(r"(\d+)", pairs)


def test_a_pattern_that_takes_for_ever_is_ended() -> None:
    """A slow pattern's process is killed, and the message says what to change."""
    with pytest.raises(PatternSlow, match=r"longer than 0\.5 s: write a simpler one"):
        agreements(r"(a+)+$", [("a" * 60 + "!", "a")], seconds=0.5)


async def test_a_score_has_what_was_learned_measured_again(engine: ScoringEngine) -> None:
    """A score has losses over the answer's tokens, exact matches and pattern matches."""
    scored = await score(engine, BASE, [EXAMPLE], pattern="[a-z]+", longest_answer=8)
    assert ((-2 * LOGPROB,), (2,), (True,)) == (scored.nll, scored.tokens, scored.exact_match)
    assert (False,) == scored.pattern_match, f"es is found in {ANSWER}"


async def test_what_the_engine_refuses_is_its_sentence(engine: ScoringEngine) -> None:
    """A refusal by the engine keeps its message and does not fail the job."""
    engine.silent = True
    with pytest.raises(ScoringFailed, match="left log-probabilities out"):
        await score(engine, BASE, [EXAMPLE], pattern=None, longest_answer=8)
