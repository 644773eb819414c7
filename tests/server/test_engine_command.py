"""The command line and the environment of an engine on the CPU."""

from pathlib import Path

import pytest

from server.engine import command
from server.engine.command import engine_command, engine_environment
from tests.server.conftest import MakeSettings

CHOICE = "--distributed-executor-backend"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The CPU package on a machine with one node of memory; return the folder of the nodes."""
    monkeypatch.setattr(command, "is_cpu_build", lambda: True)
    monkeypatch.setattr(command, "_NUMA_NODES", tmp_path)
    for name in ("VLLM_CPU_OMP_THREADS_BIND", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "node0").mkdir()
    return tmp_path


def test_the_core_computes_itself(make_settings: MakeSettings) -> None:
    """No worker process is started beside the core."""
    arguments = engine_command(make_settings(), 1)
    assert arguments[arguments.index(CHOICE) + 1].endswith("UniProcExecutor")


@pytest.mark.parametrize("given", ["-tp 2", "--pipeline_parallel_size=2", f"{CHOICE} mp"])
def test_an_operator_chooses_the_executor(make_settings: MakeSettings, given: str) -> None:
    """Arguments that need several processes, or name an executor, leave the choice to vLLM."""
    arguments = engine_command(make_settings(engine_args=given), 1)
    assert given.split() == arguments[-len(given.split()) :]
    assert arguments.count(CHOICE) == given.count(CHOICE)


def test_binding_threads_needs_a_worker(
    make_settings: MakeSettings, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM binds threads in its worker: where an operator binds them, or memory has two nodes."""
    with monkeypatch.context() as patch:
        patch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0-1")
        assert CHOICE not in engine_command(make_settings(), 1)
    (machine / "node1").mkdir()
    assert CHOICE not in engine_command(make_settings(), 1)


def test_threads_sleep_while_they_wait(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They leave the cores to other processes, unless the operator says otherwise."""
    assert "PASSIVE" == engine_environment(make_settings(), "key", 3)["OMP_WAIT_POLICY"]
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert "ACTIVE" == engine_environment(make_settings(), "key", 3)["OMP_WAIT_POLICY"]
