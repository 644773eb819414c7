"""What Ray Serve is told to run, as its REST API and `serve deploy` take it.

Serve ignores keys that it does not know, at every level but the top, so a misspelt option would be
without effect: `check_config` refuses them. Imports Ray only to check.
"""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

APPLICATION, ENGINE, GATEWAY = "weft", "engine", "gateway"
IMPORT_PATH = "server.cluster.app:app"


class ServeConfigInvalid(Exception):
    """A configuration of Serve is refused; the message says where and why."""


def local_config(
    *, host: str, port: int, gateways: int, engines: int, gpus: int
) -> dict[str, Any]:  # fmt: skip
    """Return the configuration of a cluster of one machine.

    Args:
        host: the address that clients reach.
        port: its port.
        gateways: how many replicas.
        engines: how many vLLMs.
        gpus: of each engine.
    """
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": host, "port": port},
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": IMPORT_PATH,
                "deployments": [
                    {"name": GATEWAY, "num_replicas": gateways},
                    {
                        "name": ENGINE,
                        "num_replicas": engines,
                        "ray_actor_options": {"num_cpus": 0, "num_gpus": gpus},
                    },
                ],
            }
        ],
    }


def check_config(config: Mapping[str, Any]) -> None:
    """Check a configuration by Serve's schema, and its keys by name.

    Raises:
        ServeConfigInvalid: a value is wrong, or a key is unknown.
    """
    from ray.serve.schema import ServeDeploySchema

    unknown = sorted(_unknown(config, ServeDeploySchema, ""))
    if unknown:
        raise ServeConfigInvalid(f"Serve knows no {', '.join(unknown)}: correct the spelling")
    try:
        ServeDeploySchema.model_validate(config)
    except ValueError as error:
        raise ServeConfigInvalid(str(error)) from error


def _unknown(value: Any, kind: Any, where: str) -> Iterator[str]:
    """Yield the keys below `value` that a field of type `kind` does not have."""
    fields = _fields(kind)
    if isinstance(value, Mapping) and fields:
        for key, inner in value.items():
            place = f"{where}.{key}" if where else key
            if key not in fields:
                yield place
            else:
                yield from _unknown(inner, fields[key].annotation, place)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            for part in get_args(kind):
                yield from _unknown(inner, part, f"{where}[{number}]")


def _fields(kind: Any) -> Mapping[str, Any]:
    """Return the fields of a model, or of the models in an optional or a union; else none."""
    own: Mapping[str, Any] | None = getattr(kind, "model_fields", None)
    if own is not None:
        return own
    return {name: field for part in get_args(kind) for name, field in _fields(part).items()}
