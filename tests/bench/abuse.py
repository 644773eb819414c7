"""What one tenant can do to another: B's chat latency while A abuses the gateway in each known way.

Run it with `make bench-abuse`. The gateway is a process of its own; A's requests come from another
process, so that the time they take to make is not measured. Each row is measured against B alone in
the same run, just before. The abuses are those of an audit of version 0.1; what each did then is in
the results beside this file. Not covered: vLLM's own scheduling (`ENGINE=vllm` shows it).
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import httpx
from sqlalchemy import create_engine

from registry.service import Registry
from server.cli.demo import import_demo_adapters
from server.home import open_registry
from server.settings import Settings
from tests.bench import abuses, many_rows
from tests.engine.gateway import environment, running, serve_settings

ADAPTERS = 10_000
SECONDS = 6.0
GRACE_SECONDS = 1.0
ANSWER_SECONDS = 20.0  # what B waits for an answer, which then counts as failed


@dataclass(frozen=True, slots=True)
class Row:
    """One abuse: B's latency in milliseconds alone and meanwhile, and B's answers that failed."""

    name: str
    alone_p50: float
    alone_p99: float
    p50: float
    p99: float
    worst: float
    failed: int
    answers: Mapping[str, int]

    @property
    def ratio(self) -> float:
        """B's p99 over its p99 alone."""
        return self.p99 / self.alone_p99


def keys_of(registry: Registry) -> tuple[str, str]:
    """Make the keys of the tenants A and B, which may publish."""
    made = [
        registry.access.keys.create(name, role="publish", namespace=name)[1] for name in ("a", "b")
    ]
    return made[0], made[1]


def prepare(settings: Settings, adapters: int) -> tuple[str, str]:
    """Fill the registry with the demo's adapters and many more; return the tenants' keys."""
    registry, _ = open_registry(settings)
    engine = create_engine(settings.database)
    with engine.begin() as connection:
        many_rows.fill(connection, "bench/base", adapters, many_rows.Vectors(32))
    engine.dispose()
    import_demo_adapters(settings)
    return keys_of(registry)


@contextmanager
def fake_gateway(settings: Settings) -> Iterator[str]:
    """Run a gateway on the fake engine and yield its URL."""
    with (settings.home / "gateway.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.fake_gateway"],
            env=environment(settings), stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    url = f"http://127.0.0.1:{settings.port}"
    try:
        wait_for(url, process)
        yield url
    finally:
        process.kill()
        process.wait()


def wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    """Return when a gateway answers. Raises RuntimeError: its process ended."""
    while process.poll() is None:
        try:
            if httpx.get(f"{url}/health", trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError("the gateway ended before it was ready")


def latencies(url: str, key: str, seconds: float) -> tuple[list[float], int]:
    """Return the milliseconds of one chat after another, and the number that failed."""
    body = {"model": "zorp", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    times, failed = [], 0
    with httpx.Client(
        base_url=url,
        trust_env=False,
        timeout=ANSWER_SECONDS,
        headers={"authorization": f"Bearer {key}"},
    ) as http:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            begin = time.perf_counter()
            try:
                failed += not http.post("/v1/chat/completions", json=body).is_success
            except httpx.TransportError:
                failed += 1
            times.append(1000 * (time.perf_counter() - begin))
    return times, failed


def p99(times: list[float]) -> float:
    """Return the 99th percentile, which of fewer than 100 values is the largest."""
    return sorted(times)[max(0, -(-99 * len(times) // 100) - 1)]


def measure(name: str, target: abuses.Target, key: str, seconds: float) -> Row:
    """Return B's latency alone, and while A abuses the gateway in another process."""
    alone, _ = latencies(target.url, key, seconds)
    context = multiprocessing.get_context("spawn")
    stop, answers = context.Event(), context.Queue()
    process = context.Process(target=_abuse, args=(name, target, stop, answers))
    process.start()
    try:
        target_begun(answers)
        times, failed = latencies(target.url, key, seconds)
    finally:
        stop.set()
        process.join(GRACE_SECONDS)
        process.kill()
        process.join()
    counts: Mapping[str, int] = answers.get() if not answers.empty() else {}
    return Row(
        name, statistics.median(alone), p99(alone), statistics.median(times), p99(times),
        max(times), failed, counts,
    )  # fmt: skip


def target_begun(answers: "multiprocessing.Queue[Mapping[str, int]]") -> None:
    """Wait until the abuse runs, which its first message says."""
    answers.get()


def _abuse(
    name: str,
    target: abuses.Target,
    stop: Event,
    answers: "multiprocessing.Queue[Mapping[str, int]]",
) -> None:
    """Child entry point: abuse the target until `stop`, then send the counts of answers.

    It comes last on the cores, as if it ran on a machine of its own.
    """
    os.nice(10)
    answers.put({})
    answers.put(abuses.run(abuses.ABUSES[name], target, stop.is_set))


def main() -> None:
    """Print the table and write build/bench-abuse.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("fake", "vllm"), default="fake")
    parser.add_argument("--only", nargs="*", choices=list(abuses.ABUSES), help="default: all")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--adapters", type=int, default=ADAPTERS)
    asked = parser.parse_args()
    names = asked.only or list(abuses.ABUSES)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        settings = serve_settings(Path(folder) / "home")
        settings.home.mkdir()
        key_a, key_b = prepare(settings, asked.adapters)
        start: Callable[[Settings], object] = fake_gateway if asked.engine == "fake" else _vllm
        with start(settings) as url:  # type: ignore[attr-defined]
            latencies(url, key_b, 1.0)
            for name in names:
                target = abuses.Target(url, key_a)
                row = measure(name, target, key_b, asked.seconds)
                rows.append(row)
                _say(row)
    Path("build").mkdir(exist_ok=True)
    document = [
        {name: getattr(row, name) for name in row.__slots__} | {"ratio": row.ratio} for row in rows
    ]
    Path("build/bench-abuse.json").write_text(json.dumps(document, indent=1))


@contextmanager
def _vllm(settings: Settings) -> Iterator[str]:
    with running(settings) as weft:
        yield weft.url


def _say(row: Row) -> None:
    answers = " ".join(f"{count}x {text}" for text, count in sorted(row.answers.items()))
    sys.stdout.write(
        f"{row.name:28} alone p50 {row.alone_p50:7.1f} p99 {row.alone_p99:7.1f}"
        f" | p50 {row.p50:7.1f} p99 {row.p99:8.1f} worst {row.worst:8.1f} ms"
        f" | x{row.ratio:5.1f} | {row.failed} failed | A: {answers}\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
