"""Two gateways before two engines are as right as one before one: the same tests, again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
# A part of what `make test-gateways` runs.
_TESTS = (
    "test_compositions.py", "test_parity.py::test_base", "test_parity.py::test_cat",
    "test_faults.py::test_retired_version", "test_faults.py::test_refusals",
    "test_isolation.py", "test_adaptive_jobs.py::test_from_a_file_to_an_answer",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_holds_for_one_holds_for_two() -> None:
    """With homes and folders of their own, and requests that alternate between them, gateways and
    engines pass the tests of one."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "engine and not slow",
         *(str(_HERE / name) for name in _TESTS)],
        env=os.environ | {"TEST_GATEWAYS": "2"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-20_000:]
