"""Fixtures of the merge engine's tests."""

from pathlib import Path

import pytest

from tests.merge.merge_setup import Kitchen, three_adapters


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    """Three adapters of mixed ranks, alphas, dtypes and module sets."""
    return three_adapters(tmp_path)
