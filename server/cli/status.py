"""`weft status`: a server's gateway, engine, residency, queue and disk on one screen."""

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from server.cli.client import Client, Home, Key, Server, connect, settings_of
from server.cli.console import AsJson, fail, print_json, print_table


def status(
    home: Home = None, server: Server = None, key: Key = None, as_json: AsJson = False
) -> None:
    """Show a server's gateway, engine, residency, queue and disk."""
    if server is None:
        server = _running(home)
    with connect(home, server, key) as api:
        state = _state(api)
    if as_json:
        print_json({"server": server, **state})
        return
    metrics: Mapping[str, float] = state["metrics"]
    known, resident = metrics["weft_engine_known"], metrics["weft_engine_resident"]
    rows = [
        ("gateway", f"{server}: {state['health']}"),
        ("engine", "takes requests" if metrics["weft_engine_up"] else "does not take requests"),
        ("residency", f"{resident:.0f} of {known:.0f} loaded adapters are in memory"),
        ("in use", f"{metrics['weft_leases']:.0f} requests hold a merged adapter"),
        ("requests", f"{metrics['weft_requests_total']:.0f} answered"),
        ("merges", f"{metrics['weft_merges_total']:.0f} done, "
                   f"{metrics['weft_merge_hits_total']:.0f} reused"),
        ("queue", ", ".join(f"{count} jobs {name}" for name, count in state["jobs"].items())),
        ("disk", f"{metrics['weft_artifact_bytes'] / 1e9:.2f} GB of merged adapters"),
    ]  # fmt: skip
    print_table("Status", ("part", "state"), rows)


def _running(home: Any) -> str:
    """Return the URL of the server that runs on the home folder."""
    from server.home import LOCK_NAME

    folder = settings_of(home).home
    try:
        return str(json.loads((folder / LOCK_NAME).read_text())["url"])
    except (OSError, ValueError, KeyError, TypeError):
        raise fail(f"no server has run on {folder}: name one with --server URL") from None


def _state(api: Client) -> dict[str, Any]:
    answer = api.text("/ready").json()
    problems = (f"{part} {reason}" for part, reason in answer.get("problems", {}).items())
    health = "; ".join(problems) or answer["status"]
    metrics: dict[str, float] = defaultdict(float)
    answer = api.text("/metrics")
    if answer.is_success:  # with a key, when the server wants one
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                metrics[sample.name] += sample.value
    else:
        raise fail(f"the server answered {answer.status_code} to /metrics: pass --key or WEFT_KEY")
    jobs = {
        name: sum(1 for _ in api.pages("jobs", query={"status": name}))
        for name in ("queued", "running")
    }
    return {"health": health, "metrics": metrics, "jobs": jobs}
