"""Fixtures of the merge engine's tests."""

from pathlib import Path

import pytest

from tests.merge.merge_setup import MergeSetup, three_adapters


@pytest.fixture
def merge_setup(tmp_path: Path) -> MergeSetup:
    """Three adapters of mixed ranks, alphas, dtypes and module sets."""
    return three_adapters(tmp_path)


@pytest.fixture(autouse=True)
def processes_for_small_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests merge tiny adapters, which would stay in one process, as one group."""
    monkeypatch.setattr("merge.methods.cost.GROUP_BYTES", 2**12)
    monkeypatch.setattr("merge.run.ELEMENTS_OF_A_PROCESS", 1)
