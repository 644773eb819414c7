"""One churn from an empty home to its figures."""

import asyncio
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from registry.sources.folder import import_folder
from server.base_model import ensure_base
from server.settings import Settings
from tests.engine.churn.changes import Changes
from tests.engine.churn.check import Reference, by_digest, check_integrity
from tests.engine.churn.requests import Draw
from tests.engine.churn.traffic import Traffic
from tests.engine.gateway import BASE, DEMO, Weft, running, serve_settings

SLOTS = 4
_ENGINE_START_SECONDS = 600
_MEMORY_SAMPLES = 40
# Demo merges take 0.25 to 0.7 MB: the budget holds about a third of them.
_BUDGET_BYTES = 40 * 2**20


@dataclass
class Figures:
    """What a churn gives: no `problems` if everything held. Memory is the gateway's, in MB."""

    requests: int
    done: int = 0
    seconds: float = 0.0
    p50_seconds: float = 0.0
    p99_seconds: float = 0.0
    longest_seconds: float = 0.0
    tries: dict[str, int] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)
    engine_starts: int = 0
    digests: int = 0
    answers_compared: int = 0
    ties: int = 0
    memory_mb: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """The growth of memory from the second quarter of the requests to the last, as a share."""
        quarter = len(self.memory_mb) // 4
        second, last = self.memory_mb[quarter : 2 * quarter], self.memory_mb[-quarter:]
        return statistics.median(last) / statistics.median(second) - 1

    def write(self, path: Path) -> None:
        """Write the figures so far as JSON."""
        growth = self.growth if len(self.memory_mb) >= 4 else None
        document = vars(self) | {"memory_growth": growth}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1))


def churn(home: Path, requests: int, *, seed: int = 1, report: Path | None = None) -> Figures:
    """Run a churn and return its figures, which `report` has after each twentieth of it, too.

    Args:
        home: a folder that does not exist yet.
        requests: how many of them.
        seed: of the requests and of the changes.
        report: a file for the figures as JSON.

    Raises:
        AssertionError: the gateway did not start.
    """
    settings = serve_settings(
        home,
        max_loras=SLOTS,
        max_cpu_loras=2 * SLOTS,
        artifact_budget_bytes=_BUDGET_BYTES,
        engine_probe_seconds=10,
        engine_probe_misses=2,
        engine_start_seconds=_ENGINE_START_SECONDS,
    )
    figures = Figures(requests)
    with running(settings) as weft:
        base = ensure_base(weft.registry, settings)
        for item in import_folder(weft.registry, DEMO / "adapters", base=base.name):
            assert not isinstance(item.outcome, Exception), item.outcome
        asyncio.run(_Churn(weft, figures, seed, report).run())
    figures.problems += check_integrity(settings)
    if report is not None:
        figures.write(report)
    return figures


class _Churn:
    def __init__(self, weft: Weft, figures: Figures, seed: int, report: Path | None) -> None:
        self._weft, self._figures, self._report = weft, figures, report
        self._draw = Draw(seed)
        self._traffic = Traffic(weft, self._draw, figures.requests)
        self._changes = Changes(
            weft, self._draw, weft.settings.home / "made", count=figures.requests, seed=seed
        )
        self._gateway = psutil.Process(weft.process.pid)
        self._started = time.monotonic()
        self._stops = {figures.requests * n // 20 for n in range(1, 21)}
        self._stops |= set(range(1000, figures.requests + 1, 1000))

    async def run(self) -> None:
        """Send the requests, then compare every answer with its reference."""
        await self._changes.prepare()
        self._started = time.monotonic()
        changing = asyncio.create_task(self._changes.run())
        await self._traffic.run(self._advance)
        await changing
        await self._compare()

    def _advance(self, done: int) -> None:
        self._changes.advance(done)
        figures = self._figures
        if (
            done * _MEMORY_SAMPLES // figures.requests
            != (done - 1) * _MEMORY_SAMPLES // figures.requests
        ):
            figures.memory_mb.append(round(self._gateway.memory_info().rss / 2**20, 1))
        if done in self._stops:
            self._note()

    def _note(self) -> None:
        """Bring the figures up to date, write them and print a line."""
        figures, results = self._figures, self._traffic.results
        figures.done, figures.seconds = results.done, round(time.monotonic() - self._started, 1)
        ordered = sorted(results.seconds) or [0.0]
        figures.p50_seconds = round(ordered[len(ordered) // 2], 3)
        figures.p99_seconds = round(ordered[len(ordered) * 99 // 100], 3)
        figures.longest_seconds = round(ordered[-1], 3)
        figures.tries, figures.changes = dict(results.tries), dict(self._changes.counts)
        figures.engine_starts = _engine_starts(self._weft.settings)
        figures.problems = list(results.problems)
        if self._report is not None:
            figures.write(self._report)
        rate = figures.done / max(figures.seconds, 1e-9)
        sys.stdout.write(
            f"{figures.done:6} of {figures.requests} requests, {rate:5.1f}/s, gateway "
            f"{figures.memory_mb[-1]:.0f} MB, engine starts {figures.engine_starts}, "
            f"{len(figures.problems)} problems, tries {figures.tries}\n"
        )
        sys.stdout.flush()

    async def _compare(self) -> None:
        """Ask every digest once more, so that none is lost, and compare all its answers."""
        self._note()
        figures, settings = self._figures, self._weft.settings
        retired = {leaving.digest for leaving in self._draw.leaving if leaving.retired}
        made = by_digest(self._traffic.results.answers)
        reference = Reference()
        async with self._weft.http() as http:
            for digest, answers in made.items():
                if digest != BASE and not await self._on_disk(http, digest, retired):
                    continue
                figures.digests += 1
                figures.answers_compared += sum(map(len, answers.values()))
                figures.ties += sum(len(many) - 1 for many in answers.values())
                folder = settings.artifacts / digest
                figures.problems += reference.wrong(digest, folder, answers)

    async def _on_disk(self, http: Any, digest: str, retired: set[str]) -> bool:
        """Return whether the files of a digest are there after a request for it."""
        body = {"model": digest, "prompt": "zorp: abc", "max_tokens": 1}
        response = await http.post("/v1/completions", json=body)
        if response.status_code == 410 and await self._is_retired(http, digest, retired):
            return False
        if response.status_code != 200:
            self._figures.problems.append(f"{digest[:12]} is lost: {response.text}")
            return False
        return True

    async def _is_retired(self, http: Any, digest: str, retired: set[str]) -> bool:
        """Return whether a digest is, or was made of, a version that is retired."""
        if digest in retired:
            return True
        response = await http.get(f"/registry/lineage/{digest}")
        return any(one in response.text for one in retired)


def _engine_starts(settings: Settings) -> int:
    return (settings.home / "gateway.log").read_text().count("engine ready after")
