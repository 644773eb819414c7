"""A Ray of this machine with weft on it, started and ended by `weft cluster`, for slow tests."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from server.cluster import local
from server.cluster.local import Cluster
from server.engine.process import free_port
from server.settings import Settings
from tests.server.conftest import BASE, DEMO

ROOT = Path(__file__).parents[3]
KEY = "secret"
_DOWN_SECONDS = 120.0
_STUB = "import runpy; runpy.run_module('tests.server.cluster.stub_vllm', run_name='__main__')\n"


@dataclass(frozen=True, slots=True)
class OnRay:
    """A running cluster."""

    settings: Settings
    cluster: Cluster

    def http(self) -> httpx.AsyncClient:
        """Return a client with an admin's key."""
        headers = {"authorization": f"Bearer {KEY}"}
        return httpx.AsyncClient(
            base_url=self.cluster.url, headers=headers, trust_env=False, timeout=280
        )

    def processes(self, title: str) -> list[psutil.Process]:
        """Return the processes of the cluster with a title of Ray's."""
        members = map(psutil.Process, local._session(self.cluster.pid))
        return [one for one in members if title in " ".join(one.cmdline())]


def engines_of(weft: OnRay) -> list[psutil.Process]:
    """Return the API servers of vLLM."""
    replicas = weft.processes("ServeReplica:weft:engine")
    below = [child for replica in replicas for child in replica.children()]
    return [one for one in below if "vllm.entrypoints.openai.api_server" in " ".join(one.cmdline())]


@contextmanager
def on_ray(
    folder: Path, settings: Settings, *words: str, up_seconds: float = 600
) -> Iterator[OnRay]:
    """Start `weft cluster up` with these words, and end it; nothing of it is left.

    Args:
        folder: for the log of the command.
        settings: of engines and gateways; those that are set go to the cluster as variables.
        words: of the command.
        up_seconds: what it may take.
    """
    port = free_port("127.0.0.1")
    environment = environment_of(folder, settings, port)

    def weft(*command: str, seconds: float) -> str:
        run = subprocess.run(
            [sys.executable, "-m", "server.cli", "cluster", *command], env=environment, cwd=folder,
            capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    try:
        said = weft("up", *words, seconds=up_seconds)
        assert f"ready: http://127.0.0.1:{port}/v1" in said
        cluster = local.find(settings)
        assert cluster is not None
        yield OnRay(settings, cluster)
        weft("down", seconds=_DOWN_SECONDS)
        assert [] == local._session(cluster.pid)
    finally:
        if left := local.find(settings):
            local.stop(left)


def environment_of(folder: Path, settings: Settings, port: int) -> dict[str, str]:
    """Return the variables of a cluster with these settings, whose gateways answer at `port`."""
    variables = {
        f"WEFT_{name.upper()}": _text(getattr(settings, name)) for name in settings.model_fields_set
    }
    inherited = {name: value for name, value in os.environ.items() if name[:5] != "WEFT_"}
    path = os.pathsep.join([str(folder / "overlay"), str(ROOT)])
    return {
        **inherited, **variables, "WEFT_PORT": str(port), "WEFT_API_KEYS": KEY, "PYTHONPATH": path,
        "PYTHONWARNINGS": "ignore",
    }  # fmt: skip


def stub_engines(folder: Path) -> None:
    """Put a package `vllm` into `folder`/overlay whose server is the stub."""
    package = folder / "overlay" / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    for inner in (package, package.parent, package.parent.parent):
        (inner / "__init__.py").touch()
    (package / "api_server.py").write_text(_STUB)
    real = next(Path(p) / "vllm" for p in sys.path if (Path(p) / "vllm" / "version.py").exists())
    # What `weft cluster up` reads of vLLM: which models it serves with LoRA.
    (package.parents[1] / "model_executor").symlink_to(real / "model_executor")


def cluster_settings(home: Path, **changes: Any) -> Settings:
    """Return settings of the demo base for a cluster."""
    return Settings(
        home=home, model=str(DEMO / "base"), served_base=BASE, dtype="float32", max_loras=4,
        max_cpu_loras=16, max_lora_rank=64, merge_threads=1, **changes,
    )  # fmt: skip


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
