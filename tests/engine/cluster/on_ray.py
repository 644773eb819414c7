"""The same cluster on a local Ray: its parts are lost as on machines, and Ray brings them back."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import psutil

from server.cli.demo import import_demo_adapters
from server.cluster.local import stages_of
from server.cluster.serve_config import APPLICATION
from tests.engine.cluster.machines import BUDGET_BYTES
from tests.engine.cluster.parts import Cluster, Part, backing
from tests.server.cluster.running import KEY, OnRay, cluster_settings, engines_of, on_ray

_COUNT = 2  # of gateways, and of engines
_UP_SECONDS = 1200.0
_BACK_SECONDS = 600.0
_POLL_SECONDS = 1.0


@contextmanager
def cluster_on_ray(folder: Path) -> Iterator[Cluster]:
    """Start a Ray with two gateways and two engines, a database and a store, and end them."""
    with ExitStack() as stack:
        back = stack.enter_context(backing(folder))
        settings = cluster_settings(
            folder / "home", job_devices=(), artifact_budget_bytes=BUDGET_BYTES, **back.settings
        )
        import_demo_adapters(settings)
        words = ("--engines", str(_COUNT), "--gateways", str(_COUNT))
        ray = stack.enter_context(on_ray(folder, settings, *words, up_seconds=_UP_SECONDS))
        parts = (
            _replaced("an engine, killed", ray, lambda: engines_of(ray)),
            _replaced("a gateway, killed", ray, lambda: gateways_of(ray)),
        )
        yield Cluster((*parts, *back.parts), [ray.cluster.url], KEY, settings)


def gateways_of(ray: OnRay) -> list[psutil.Process]:
    """Return the processes of the gateways."""
    return ray.processes("ServeReplica:weft:gateway")


def _replaced(name: str, ray: OnRay, processes: Callable[[], Sequence[psutil.Process]]) -> Part:
    """Return a part of which one process is killed, and which Ray has to bring back."""

    def lose() -> None:
        os.kill(processes()[0].pid, signal.SIGKILL)

    def restore() -> None:
        deadline = time.monotonic() + _BACK_SECONDS
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError, psutil.NoSuchProcess):
                if len(processes()) == _COUNT and _whole(ray):
                    return
            time.sleep(_POLL_SECONDS)
        raise TimeoutError(f"{name}: it was not back after {_BACK_SECONDS:.0f} s")

    return Part(name, lose, restore)


def _whole(ray: OnRay) -> bool:
    """Return whether every replica runs, and a gateway knows every engine."""
    application = ray.cluster.applications()["applications"][APPLICATION]
    if any(f"{_COUNT} of {_COUNT}" not in stage for stage in stages_of(application)):
        return False
    headers = {"authorization": f"Bearer {KEY}"}
    metrics = httpx.get(f"{ray.cluster.url}/metrics", headers=headers, trust_env=False)
    return f"weft_engines {_COUNT:.1f}" in metrics.text
