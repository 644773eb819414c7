"""A gateway on a cluster: one replica is what `weft serve` is, behind Serve's HAProxy.

HAProxy passes requests to the replica's own port, and the replica's relay passes tokens from the
engine to it: none goes through Ray. Not covered: header and write time limits, as the HTTP server
is Serve's.
"""

import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from fastapi import FastAPI

from server.app import create_app
from server.artifacts.canary_file import read_canaries
from server.cluster.builds import RayWorkers
from server.cluster.hooks import listen, replica_rank
from server.cluster.keys import require_keys
from server.cluster.learning import RayChild
from server.cluster.members import OnRay
from server.engine.link import Endpoint
from server.engine.proof import EngineStartFailed
from server.engine.recruit import Post, Recruiter
from server.environment import forget_settings
from server.home import locked_home
from server.serve import SWITCH_SECONDS, open_gateway
from server.settings import Settings
from server.telemetry.export import exported_spans
from server.telemetry.logs import set_up_logging


class GatewayReplica:
    """A Serve deployment's class: Serve makes it, serves its app and ends it.

    Args:
        engines: the handle of the engines' deployment.
    """

    async def __init__(self, engines: Any) -> None:  # type: ignore[misc]  # Serve awaits it
        """Start a gateway with the settings of this machine's environment.

        Raises:
            HomeInUse, KeysMissing, EngineStartFailed, RegistryError: Ray tries again.
        """
        settings = settings_of(replica_rank(), Settings())
        forget_settings()
        set_up_logging(settings.log_format)
        sys.setswitchinterval(SWITCH_SECONDS)
        listen(engines)
        self._settings, self._stack = settings, AsyncExitStack()
        self._stack.enter_context(locked_home(settings, f"replica {replica_rank()} on Ray"))
        if settings.canary_file is not None:
            read_canaries(settings.canary_file)
        self._stack.enter_context(exported_spans(settings.otlp_endpoint))
        self._gateway = await open_gateway(
            self._stack, settings, connect=self._connect, elsewhere=True, check_reach=require_keys,
            workers=RayWorkers(settings), launch=RayChild,
        )  # fmt: skip

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the routes. Serve calls it once this object is made."""
        return create_app(self._gateway)

    async def __del__(self) -> None:
        """End the gateway. Serve awaits it when no request runs any more, or its time is over."""
        self._gateway.stopping.begun = True
        self._gateway.stopping.cut()
        await self._stack.aclose()

    async def _connect(self, posts: Sequence[Post]) -> None:
        if len(posts) > 1:
            raise EngineStartFailed("on Ray there are engines of one base: set no WEFT_BASES")
        post = replace(posts[0], prove=_proven_by_its_replica)
        recruiter = Recruiter(OnRay(post.settings.served_base), [post], self._settings)
        self._stack.push_async_callback(recruiter.stop)
        await recruiter.start(self._settings.engine_start_seconds)


def settings_of(rank: int, settings: Settings) -> Settings:
    """Return the settings of the gateway with this rank.

    Gateways that share an object store have each a home of their own, in the one of the settings:
    it has their copies of the store's files. Without a store there is one gateway, and one home.
    """
    if settings.store is None:
        return settings
    name, artifacts = f"gateway-{rank}", settings.artifacts_dir
    own = {
        "home": settings.home / name,
        "artifacts_dir": None if artifacts is None else artifacts / name,
        "database_url": settings.database,
    }
    return settings.model_copy(update=own)


async def _proven_by_its_replica(_endpoint: Endpoint) -> None:
    """Do nothing: an engine on Ray has passed its self-test before anybody hears of it."""
