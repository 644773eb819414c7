"""Requests over 200 compositions on 4 slots while everything beneath them changes.

Short: `make churn` sends 20,000 and measures the growth of the gateway's memory.
"""

from pathlib import Path

import pytest

from tests.engine.churn.run import churn

REQUESTS = 400


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(2400)
def test_churn(tmp_path: Path) -> None:
    """While aliases move, adapters are published and retired, artifacts are deleted, and the engine
    is killed twice and hung once: every request is answered, each answer is the greedy one for the
    digest that it names, no artifact is lost, and the database and the stores are whole at the end.
    """
    figures = churn(tmp_path / "home", REQUESTS)

    assert [] == figures.problems
    assert REQUESTS == figures.done
    assert (2, 1) == (figures.changes["engine killed"], figures.changes["engine hung"])
    assert figures.engine_starts >= 4
