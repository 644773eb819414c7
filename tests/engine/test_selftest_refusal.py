"""The self-test refuses an engine that answers a request with another request's adapter."""

from pathlib import Path

import pytest

from tests.engine.gateway import running, serve_settings


@pytest.mark.slow
def test_unmended_kernels_are_refused(tmp_path: Path) -> None:
    """With vLLM's own CPU kernels a mixed batch changes the base's answers, so the self-test fails
    and weft refuses to serve."""
    unmended = Path(__file__).parent / "unmended"

    with (
        pytest.raises(AssertionError, match="answers differently when adapters share"),
        running(serve_settings(tmp_path / "home"), extra_environment={"PYTHONPATH": str(unmended)}),
    ):
        pass
