"""Serve runs deploy/ray/serve.yaml, which KubeRay's manifest repeats, on a Ray of this machine."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from server.cli.demo import import_demo_adapters
from server.cluster import local
from server.engine.process import free_port
from tests.server.cluster.running import ROOT, OnRay, cluster_settings, environment_of, stub_engines
from tests.server.conftest import BASE

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
# Ray takes the machine's CPUs and GPUs from here: a stub needs none, and has to be placed.
_RESOURCES = '{"CPU": 4, "GPU": 1}'
_UP_SECONDS = 400.0


def one_of_each(port: int) -> dict[str, Any]:
    """Return the file's configuration at a free port, with one replica of each deployment."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "deploy/ray/serve.yaml").read_text())
    config["http_options"]["port"] = port
    for deployment in config["applications"][0]["deployments"]:
        deployment["num_replicas"] = 1
    return config


async def test_serve_places_and_runs_the_deployments(tmp_path: Path) -> None:
    """With the CPUs and GPUs that the file asks for, the application comes up and answers."""
    stub_engines(tmp_path)
    port = free_port("127.0.0.1")
    settings = cluster_settings(tmp_path / "home", self_test=False, job_devices=(), port=port)
    import_demo_adapters(settings)
    environment = environment_of(tmp_path, settings, port) | {"RAY_OVERRIDE_RESOURCES": _RESOURCES}
    cluster = local.start(settings, environment)
    try:
        cluster.deploy(one_of_each(port))
        local.wait_until_served(cluster, _UP_SECONDS, print)
        async with OnRay(settings, cluster).http() as http:
            chat = {"model": "zorp@prod", "messages": [{"role": "user", "content": "x"}]}
            assert (await http.post("/v1/chat/completions", json=chat)).status_code == 200
            models = (await http.get("/v1/models")).json()["data"]
        assert BASE in {model["id"] for model in models}
    finally:
        local.stop(cluster)
