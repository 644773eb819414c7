"""The application that Serve deploys, by the import path `server.cluster.app:app`.

What a cluster's own file sets for a deployment (deploy/ray/serve.yaml) overrides what is here.
"""

import math
from typing import Any

from ray import serve

from server.cluster.engine import EngineReplica
from server.cluster.gateway import GatewayReplica
from server.cluster.hooks import router_config
from server.cluster.serve_config import ENGINE, GATEWAY
from server.settings import Settings

_HEALTH_SECONDS = 1.0
_ENGINE_STOP_SECONDS = 30.0  # what a vLLM may take to end
_CUT_SECONDS = 5.0  # what answers that were cut off may take to send their last event


def app(_arguments: dict[str, str]) -> Any:
    """Return gateways before engines. Serve calls it with the arguments of its file, none.

    Raises:
        pydantic.ValidationError: a setting of the environment is wrong.
    """
    settings = Settings()
    engine = serve.deployment(
        EngineReplica,
        name=ENGINE,
        request_router_config=router_config(),
        health_check_period_s=_HEALTH_SECONDS,
        graceful_shutdown_timeout_s=_ENGINE_STOP_SECONDS,
        ray_actor_options={"num_cpus": 0},
    )
    gateway = serve.deployment(
        serve.ingress()(GatewayReplica),
        name=GATEWAY,
        max_ongoing_requests=settings.max_connections,
        health_check_period_s=_HEALTH_SECONDS,
        graceful_shutdown_timeout_s=math.ceil(settings.drain_seconds) + _CUT_SECONDS,
        ray_actor_options={"num_cpus": 0},
    )
    return gateway.bind(engine.bind())
