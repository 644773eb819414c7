"""An engine on a cluster: one replica is one vLLM, which Ray starts again when it is lost.

The replica starts and watches the process, and brings adapters from the object store to the folder
that it loads from (`server.node`). Requests and loads go to vLLM's own port, as on one machine. Not
covered: which engine answers (`server.engine.fleet`).
"""

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Any

import ray
import uvicorn

from registry.storage.blobs import LocalBlobs
from server.base_model import served_base
from server.cluster.hooks import replica_rank
from server.engine.client import VllmEngine
from server.engine.fit import proof_of
from server.engine.link import Fixed
from server.engine.liveness import Problem
from server.engine.process import EngineProcess, free_port, new_endpoint
from server.engine.protocol import EngineUnavailable
from server.environment import forget_settings
from server.node.cache import NodeCache
from server.node.serve import node_app
from server.settings import Settings
from server.stores import buckets_of
from server.telemetry.logs import set_up_logging

_NODE_HOST = "127.0.0.1"
_POLL_SECONDS = 0.02
_log = logging.getLogger("weft.engine")


class EngineLost(Exception):
    """The vLLM of a replica is gone or does not answer; Ray replaces the replica."""


class EngineReplica:
    """A Serve deployment's class: Serve makes it, asks for its health and ends it."""

    async def __init__(self) -> None:  # type: ignore[misc]  # Serve awaits it
        """Start vLLM with the settings of this machine's environment.

        Raises:
            EngineStartFailed: Ray tries again, here or elsewhere.
            BaseUnreadable: there is no config of the base.
            registry.errors.RegistryError: the object store cannot be opened.
        """
        self._settings = settings = Settings()
        forget_settings()
        set_up_logging(settings.log_format)
        self._stack = AsyncExitStack()
        self._problem: Problem | None = None
        self._endpoint = new_endpoint(settings, ray.util.get_node_ip_address())
        self._engine = VllmEngine(Fixed(self._endpoint))
        self._stack.push_async_callback(self._engine.close)
        self._process = EngineProcess(
            settings,
            log_path=settings.home.resolve() / f"engine-{replica_rank()}.log",
            prove=proof_of(settings, served_base(settings).shapes),
            variables=await self._node(),
        )
        self._stack.push_async_callback(self._process.end)
        await self._process.start(self._endpoint)
        watch = asyncio.create_task(self._keep_watching(), name="engine watch")
        self._stack.callback(watch.cancel)

    async def __del__(self) -> None:
        """End vLLM. Serve awaits it; where it cannot, vLLM ends with this process."""
        await self._stack.aclose()

    def check_health(self) -> None:
        """Raise EngineLost once vLLM is lost. Serve asks often."""
        if self._problem is not None:
            raise EngineLost(self._problem.reason)

    def record_replica_metadata(self) -> dict[str, Any]:
        """Return where the engine is and what it serves. See `hooks`."""
        endpoint = self._endpoint
        return {"url": endpoint.url, "key": endpoint.key, "base": self._settings.served_base}

    async def record_routing_stats(self) -> dict[str, Any]:
        """Return the adapters in memory and the number of running requests. See `hooks`."""
        try:
            adapters = await self._engine.adapters()
        except EngineUnavailable:  # the watch decides whether it is lost
            return {}
        return {"resident": sorted(adapters.resident), "running": sum(adapters.running.values())}

    async def _node(self) -> dict[str, str]:
        """Start what brings adapters, if there is a store; return what tells the plug-in of it."""
        buckets = buckets_of(self._settings)
        if not buckets:
            return {}
        budget_bytes = self._settings.artifact_budget_bytes
        folder = LocalBlobs(self._settings.artifacts)
        cache = NodeCache(folder, buckets, self._engine, budget_bytes=budget_bytes)
        port = free_port(_NODE_HOST)
        config = uvicorn.Config(
            node_app(cache, self._endpoint.key), host=_NODE_HOST, port=port, log_config=None,
            access_log=False,
        )  # fmt: skip
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(), name="node")
        self._stack.push_async_callback(_stop, server, serving)
        while not server.started and not serving.done():
            await asyncio.sleep(_POLL_SECONDS)
        return {"WEFT_NODE_URL": f"http://{_NODE_HOST}:{port}"}

    async def _keep_watching(self) -> None:
        problem = self._problem = await self._process.until_lost(self._endpoint)
        cause = await self._process.cause()
        _log.error("the engine is lost: %s; its log: %s", problem.reason, cause)


async def _stop(server: uvicorn.Server, serving: "asyncio.Task[None]") -> None:
    server.should_exit = True
    await serving
