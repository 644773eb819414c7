"""An alarm fires on what a gateway exports while its engine is killed."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from server.engine.fake import FakeEngine
from server.engine.launch import Supervisor
from server.engine.protocol import EngineAdapters
from server.live import live_of
from tests.deploy.formats import DEPLOY
from tests.deploy.promtool import promtool
from tests.server.conftest import BASE, MakeGateway
from tests.server.launching import Stub, is_up, until
from tests.serving import serving

ALERTS = DEPLOY / "prometheus/alerts.yml"
SCRAPE_SECONDS = 15


class _Supervised(FakeEngine):
    """A fake engine that is up while a supervisor's process is."""

    def __init__(self, supervisor: Supervisor) -> None:
        super().__init__(BASE)
        self._supervisor = supervisor

    async def adapters(self) -> EngineAdapters:
        """Raise EngineUnavailable while the process is gone."""
        self._supervisor.endpoint()
        return await super().adapters()


async def test_a_killed_engine_raises_the_alarm(
    stub: Stub, make_gateway: MakeGateway, tmp_path: Path
) -> None:
    """The metrics that a gateway exports while its engine is killed make WeftEngineDown fire."""
    supervisor = stub.supervisor()
    await supervisor.start()
    gateway = make_gateway()
    gateway.bases = serving(gateway.settings, _Supervised(supervisor))
    try:
        scrapes = [gateway.metrics.render(await live_of(gateway)) for _ in range(4)]
        stub.mode = "exits"  # it cannot be started again
        os.kill(stub.lives()[0][0], signal.SIGKILL)
        await until(lambda: not is_up(supervisor))
        scrapes += [gateway.metrics.render(await live_of(gateway))] * 6
    finally:
        await supervisor.stop()
    recorded = [engine_up(scrape) for scrape in scrapes]
    assert recorded == [1] * 4 + [0] * 6

    shutil.copy(ALERTS, tmp_path)
    case = fires_at(recorded, killed_at=4 * SCRAPE_SECONDS)
    (tmp_path / "killed.yml").write_text(yaml.safe_dump(case))
    promtool("test", "rules", "killed.yml", folder=tmp_path)


def engine_up(scrape: bytes) -> int:
    """Return the value of weft_engine_up in a scrape."""
    families = text_string_to_metric_families(scrape.decode())
    (sample,) = next(family for family in families if family.name == "weft_engine_up").samples
    return int(sample.value)


def fires_at(recorded: list[int], *, killed_at: int) -> dict[str, Any]:
    """Return promtool's test: silent for the rule's minute after the death, and then not."""
    firing = {
        "exp_labels": {"severity": "page", "instance": "gateway:8000"},
        "exp_annotations": {
            "summary": "The engine of gateway:8000 takes no requests.",
            "runbook": "the-engine-is-down",
        },
    }
    series = 'weft_engine_up{instance="gateway:8000"}'
    tests = [
        {"eval_time": f"{killed_at + seconds}s", "alertname": "WeftEngineDown",
         "exp_alerts": [firing] if seconds >= 60 else []}
        for seconds in (0, 45, 75)
    ]  # fmt: skip
    return {
        "rule_files": ["alerts.yml"],
        "evaluation_interval": f"{SCRAPE_SECONDS}s",
        "tests": [{
            "interval": f"{SCRAPE_SECONDS}s",
            "input_series": [{"series": series, "values": " ".join(map(str, recorded))}],
            "alert_rule_test": tests,
        }],
    }  # fmt: skip
