"""The dashboard and the alarms: what they ask for exists, and an alarm fires when it should."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from server.telemetry.metrics import Metrics
from tests.deploy.formats import DEPLOY
from tests.deploy.promtool import promtool

DASHBOARD = json.loads((DEPLOY / "grafana/weft.json").read_text())
ALERTS = DEPLOY / "prometheus/alerts.yml"
RULES = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
QUERIES = [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())
]  # fmt: skip


def labels_of() -> Mapping[str, set[str]]:
    """Return the labels of every series that the gateway exports, by name."""
    labels: dict[str, set[str]] = {}
    metrics = Metrics()
    for collector in metrics.registry._collector_to_names:
        for name in metrics.registry._collector_to_names[collector]:
            labels[name] = set(getattr(collector, "_labelnames", ())) | {"instance", "job", "le"}
    live = {"weft_pool_calls": {"pool"}, "weft_pool_limit": {"pool"},
            "vllm:lora_adapter_loaded": {"adapter_name", "level", "pinned"}}  # fmt: skip
    for family in metrics.registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels.setdefault(name, {"instance", "job"} | live.get(name, set()))
    return labels | {"up": {"instance", "job"}}


def names_in(query: str) -> set[str]:
    """Return the names of the metrics that a query reads."""
    return set(re.findall(r"\b(?:weft_[a-z_]+|vllm:[a-z_]+)\b", query))


@pytest.mark.parametrize("query", [*QUERIES, *(rule["expr"] for rule in RULES)])
def test_queries_name_metrics_and_labels_that_exist(query: str) -> None:
    """Every query of the dashboard and of the alarms reads metrics and labels of the gateway."""
    labels = labels_of()
    names = names_in(query) | set(re.findall(r"\bup\b", query))
    assert names
    assert set() == names - labels.keys()
    used = set(re.findall(r"(\w+)\s*=~?\"", query)) - {"__name__"}
    for grouped in re.findall(r"by \(([^)]*)\)", query):
        used |= set(re.findall(r"\w+", grouped))
    allowed = set.union(*(labels[name] for name in names))
    assert set() == used - allowed


def test_every_metric_is_on_the_dashboard() -> None:
    """What the gateway measures can be seen: no metric is missing from the dashboard."""
    shown = set().union(*map(names_in, QUERIES))
    exported = {family.name for family in Metrics().registry.collect()}
    missing = {name for name in exported if not any(n.startswith(name) for n in shown)}
    assert set() == missing


def test_the_dashboard_is_grafana_s() -> None:
    """Grafana's own types read the dashboard and write it again without losing anything."""
    register_default_plugins()
    written = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD)))
    assert [] == list(lost(DASHBOARD, written))


def test_panels_do_not_overlap() -> None:
    """No two panels cover the same place, and none is wider than the page."""
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_rules_are_rules() -> None:
    """promtool accepts the rules and the scrape configuration."""
    assert f"{len(RULES)} rules found" in promtool("check", "rules", str(ALERTS), folder=DEPLOY)
    promtool("check", "config", "--syntax-only", "prometheus/prometheus.yml", folder=DEPLOY)


def test_alarms_fire_and_keep_quiet(tmp_path: Path) -> None:
    """Each alarm fires on series of its fault, and none on those of a quiet server."""
    shutil.copy(ALERTS, tmp_path)
    cases = shutil.copy(Path(__file__).parent / "alerts_test.yml", tmp_path)
    promtool("test", "rules", Path(cases).name, folder=tmp_path)
    text = Path(cases).read_text()
    assert [] == [rule["alert"] for rule in RULES if text.count(rule["alert"]) < 1]


def test_each_alarm_leads_to_the_runbook() -> None:
    """The runbook of every alarm is a heading of RUNBOOK.md."""
    headings = re.findall(r"^## (.+)$", (DEPLOY / "RUNBOOK.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set() == {rule["annotations"]["runbook"] for rule in RULES} - anchors


def lost(before: Any, after: Any, place: str = "") -> Iterator[str]:
    """Yield the places where `after` lacks or changes a value of `before`."""
    if isinstance(before, dict):
        for name, value in before.items():
            if not isinstance(after, dict) or name not in after:
                yield f"{place}/{name}"
            else:
                yield from lost(value, after[name], f"{place}/{name}")
    elif isinstance(before, list):
        if not isinstance(after, list) or len(before) != len(after):
            yield place
            return
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from lost(one, other, f"{place}[{number}]")
    elif before != after:
        yield place
