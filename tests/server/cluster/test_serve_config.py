"""What Serve is told to run, checked by Serve's own schema and by name."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.cluster.serve_config import ServeConfigInvalid, check_config, local_config

pytest.importorskip("ray", reason="the extra `ray` is not installed")
ROOT = Path(__file__).parents[3]
Place = tuple[str | int, ...]
_ENGINE: Place = ("applications", 0, "deployments", 1)


def local() -> dict[str, Any]:
    """Return the configuration of a cluster of one machine."""
    return local_config(host="127.0.0.1", port=8000, gateways=2, engines=3, gpus=1)


def test_what_a_local_cluster_runs_is_valid() -> None:
    """Serve accepts the configuration of `weft cluster up`."""
    check_config(local())


def test_what_a_real_cluster_runs_is_valid() -> None:
    """Serve accepts deploy/ray/serve.yaml."""
    check_config(yaml.safe_load((ROOT / "deploy" / "ray" / "serve.yaml").read_text()))


@pytest.mark.parametrize(
    "place",
    [
        ("proxylocation",),
        ("http_options", "prot"),
        ("applications", 0, "import_pth"),
        (*_ENGINE, "num_replica"),
        (*_ENGINE, "ray_actor_options", "num_gpu"),
        (*_ENGINE, "autoscaling_config", "min_replica"),
    ],
)
def test_a_misspelt_key_is_refused_with_its_place(place: Place) -> None:
    """A key that Serve would pass over is refused wherever it is."""
    config = local()
    config["applications"][0]["deployments"][1]["autoscaling_config"] = {}
    put(config, place, 1)

    with pytest.raises(ServeConfigInvalid, match=str(place[-1])):
        check_config(config)


@pytest.mark.parametrize(
    ("place", "value"), [((*_ENGINE, "num_replicas"), "many"), (("http_options", "port"), "x")]
)
def test_a_wrong_value_is_refused(place: Place, value: object) -> None:
    """A value of the wrong type is refused as Serve refuses it."""
    config = local()
    put(config, place, value)

    with pytest.raises(ServeConfigInvalid):
        check_config(config)


def put(config: Any, place: Place, value: object) -> None:
    """Set a value deep in a configuration."""
    inner = config
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = copy.copy(value)
