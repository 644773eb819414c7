"""Ray Serve's alpha API, all of it: what an engine tells about itself, and who hears of it.

Serve calls two methods of an engine by their names: `record_replica_metadata` once, when the engine
is up, and `record_routing_stats` again and again. Its controller sends both to the router of every
handle, and the router of this file puts them on the board of its process (`news.py`). Serve routes
no client's request: the gateway's fleet chooses an engine, and its relay asks that engine directly.
A new release of Ray may change all this, so it is pinned.
"""

from typing import Any

from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.request_router import RequestRouter

_STATISTICS_SECONDS = 1.0


class EngineRouter(RequestRouter):  # type: ignore[misc]  # Ray is untyped here
    """The router of a handle to the engines; it runs in a thread of Serve's."""

    def update_replicas(self, replicas: list[Any]) -> None:
        """Put what is told of the engines that are up on the board."""
        # Serve copies this class and its globals; a module that is imported here is not copied.
        from server.cluster.news import BOARD, EngineNews

        super().update_replicas(replicas)
        BOARD.latest = tuple(
            EngineNews(replica.replica_metadata, replica.routing_stats) for replica in replicas
        )

    async def choose_replicas(
        self, candidate_replicas: list[Any], pending_request: Any = None
    ) -> list[list[Any]]:
        """Let any engine answer a call by handle; none is a client's request."""
        del pending_request
        return [candidate_replicas]


def router_config() -> Any:
    """Return the setting of a deployment whose handles use `EngineRouter`."""
    return RequestRouterConfig(
        request_router_class=f"{EngineRouter.__module__}:{EngineRouter.__qualname__}",
        request_routing_stats_period_s=_STATISTICS_SECONDS,
    )


def listen(handle: Any) -> None:
    """Have this process hear of the engines behind a handle: its router is made by a first use."""
    handle.options()


def replica_rank() -> int:
    """Return this replica's number, from 0, which no other of its deployment has."""
    return int(serve.get_replica_context().rank.rank)
