"""Builds as tasks of Ray: on any machine with a CPU to spare, and each once for all gateways.

One actor of the cluster, which outlives the gateways, has the builds that run: every gateway that
asks for one of them gets its result. A build runs in a worker process (`server.artifacts.workers`)
of the task, with the limits that it has on one machine. With an object store a task runs anywhere:
it fetches the ingredients, and the files come back as an object of Ray. Without one it runs on the
gateway's machine and writes there. Ray tries nothing again: the builder does.
"""

import asyncio
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from registry.storage.cached_blobs import CachedBlobs
from server.artifacts.worker import BuildCall, Built
from server.artifacts.workers import WorkerDied, Workers
from server.settings import Settings
from server.stores import version_store

NAMESPACE = "weft"
_ACTOR = "builds"
_CPUS = 1  # of a task; a merge's processes share them, as its kernels have one thread each


@dataclass(frozen=True, slots=True)
class _Made:
    """What a task returns of a build that succeeded.

    Attributes:
        built: what the build returned.
        files: its files by name, unless they are where the gateway wants them.
    """

    built: Built
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class _Raised:
    """What a task returns of a build that raised: Ray would wrap the error in one of its own."""

    error: Exception


class RayWorkers:
    """See `BuildWorkers`. One for each gateway."""

    def __init__(self, settings: Settings) -> None:
        self.fetches = settings.store is not None
        self._memory_bytes = settings.merge_max_bytes
        self._actor: Any = None
        self._warming: Any = None

    async def warm(self) -> None:
        """Find the cluster's actor, or start it, and have a process of this machine import torch.

        Ray keeps as many idle processes as there are CPUs, and a build takes one of them.
        """
        actor = ray.remote(RunningBuilds).options(
            name=_ACTOR, namespace=NAMESPACE, lifetime="detached", get_if_exists=True,
            max_restarts=-1, num_cpus=0,
        )  # fmt: skip
        self._actor = await asyncio.to_thread(actor.remote)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        warming = ray.remote(warm_here).options(
            num_cpus=_CPUS, max_retries=0, scheduling_strategy=here
        )
        self._warming = warming.remote(self._memory_bytes)  # its result is not needed

    async def run(self, call: BuildCall, seconds: float) -> Built:
        """See `BuildWorkers`."""
        key = hashlib.sha256(call.recipe.encode()).hexdigest()
        # Builds that write to a gateway's own folder are that gateway's.
        key = key if self.fetches else f"{key} {call.out}"
        node = None if self.fetches else ray.get_runtime_context().get_node_id()
        try:
            references = await self._actor.build.remote(
                key, call, seconds, self._memory_bytes, node
            )
            outcome: _Made | _Raised = await references[0]
        except RayError as error:
            raise WorkerDied(str(error)) from error
        if isinstance(outcome, _Raised):
            raise outcome.error
        if outcome.files:
            await asyncio.to_thread(_write, call.out, outcome.files)
        return outcome.built

    async def stop(self) -> None:
        """Do nothing: builds that run go on for other gateways."""


class RunningBuilds:
    """The cluster's actor: builds that run, by recipe."""

    def __init__(self) -> None:
        self._running: dict[str, Any] = {}
        self._watches: set[asyncio.Task[None]] = set()

    async def build(
        self, key: str, call: BuildCall, seconds: float, memory_bytes: int, node: str | None
    ) -> list[Any]:
        """Return a reference to what the build of `key` returns, beginning it unless it runs.

        The reference is in a list, as Ray would wait for a bare one.

        Args:
            key: of the recipe.
            call: the build, and what it needs.
            seconds: its time limit.
            memory_bytes: its memory limit.
            node: where it must run; None: anywhere.
        """
        reference = self._running.get(key)
        if reference is None:
            options: dict[str, Any] = {"num_cpus": _CPUS, "max_retries": 0}
            if node is not None:
                options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=False)
            reference = _task().options(**options).remote(call, seconds, memory_bytes)
            self._running[key] = reference
            watch = asyncio.create_task(self._forget_when_done(key, reference))
            self._watches.add(watch)
            watch.add_done_callback(self._watches.discard)
        return [reference]

    async def _forget_when_done(self, key: str, reference: Any) -> None:
        await asyncio.wait([reference])
        del self._running[key]


@functools.cache
def _task() -> Any:
    return ray.remote(build_here)


@functools.cache
def _workers(memory_bytes: int) -> Workers:
    """Return the worker process that belongs to this process of Ray's, which runs many tasks."""
    return Workers(1, memory_bytes)


def warm_here(memory_bytes: int) -> None:
    """Start the worker process of this process of Ray's."""
    asyncio.run(_workers(memory_bytes).warm())


def build_here(call: BuildCall, seconds: float, memory_bytes: int) -> _Made | _Raised:
    """Run a build in this task's worker process."""
    try:
        return _build(call, seconds, _workers(memory_bytes))
    except Exception as error:  # whatever it is, the gateway's builder knows it
        return _Raised(error)


def _build(call: BuildCall, seconds: float, workers: Workers) -> _Made:
    if call.folders.keys() >= set(call.digests):
        return _Made(asyncio.run(workers.run(call, seconds)), {})
    settings = Settings()
    versions = version_store(settings)
    folders = {digest: versions.path(digest) for digest in call.digests}
    with versions.workspace() as workspace:
        here = replace(call, folders=folders, out=workspace / "merged")
        built = asyncio.run(workers.run(here, seconds))
        made = _Made(built, {file.name: file.read_bytes() for file in here.out.iterdir()})
    if isinstance(versions, CachedBlobs):
        versions.shrink(settings.store_cache_bytes, lambda: ())  # what was used now stays an hour
    return made


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
