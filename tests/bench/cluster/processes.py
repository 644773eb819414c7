"""The processes of the benchmark: vLLM engines on one machine, and gateways before them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpx

from server.engine.command import engine_command
from server.engine.link import Endpoint
from server.settings import Settings
from tests.engine.gateway import START_SECONDS, environment, free_port

KEY = "bench"


@dataclass(frozen=True, slots=True)
class Process:
    """A program and where it listens."""

    endpoint: Endpoint
    process: "subprocess.Popen[bytes]"

    def ask(self) -> dict[str, int]:
        """Send a line to a gateway and return what it answers: see `gateway`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        answer: dict[str, int] = json.loads(self.process.stdout.readline())
        return answer

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has used, in user and system mode."""
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as stat:  # noqa: PTH123
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def engines(settings: Settings, count: int, **variables: str) -> Iterator[Sequence[Process]]:
    """Run vLLM engines with weft's plug-in, which load from the same folder; yield when all are up.

    Args:
        settings: of the engines, and the folder of artifacts.
        count: of engines; each takes about 2.5 GB.
        variables: of their environment.
    """
    settings.artifacts.mkdir(parents=True, exist_ok=True)
    environ = os.environ | {
        "VLLM_PLUGINS": "weft", "VLLM_API_KEY": KEY, "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "WEFT_ARTIFACTS": str(settings.artifacts),
    } | variables  # fmt: skip
    with ExitStack() as stack:
        started = []
        for number in range(count):
            port = free_port()
            log = stack.enter_context((settings.home / f"engine-{number}.log").open("wb"))
            process = subprocess.Popen(
                engine_command(settings, port), env=environ, stdout=log, stderr=subprocess.STDOUT
            )
            stack.callback(_end, process)
            started.append(Process(Endpoint(f"http://127.0.0.1:{port}", KEY), process))
        for engine in started:
            _wait(f"{engine.endpoint.url}/health", engine.process)
        yield started


@contextmanager
def stubs(count: int) -> Iterator[Sequence[Process]]:
    """Run engines that answer at once."""
    with ExitStack() as stack:
        started = []
        for _ in range(count):
            port = free_port()
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.serve.stub_engine", str(port)]
            )
            stack.callback(_end, process)
            started.append(Process(Endpoint(f"http://127.0.0.1:{port}"), process))
        for engine in started:
            _wait(f"{engine.endpoint.url}/weft/adapters", engine.process)
        yield started


@contextmanager
def gateway(settings: Settings, rule: str, engines: Sequence[Process]) -> Iterator[Process]:
    """Run a gateway before engines, and yield it once it answers.

    Args:
        settings: of the gateway; its port and engines are replaced.
        rule: of placement: `random`, `least busy` or `weft`.
        engines: those that it has.
    """
    own = settings.model_copy(
        update={
            "port": free_port(),
            "engine_url": tuple(engine.endpoint.url for engine in engines),
        }
    )
    environ = environment(own) | {"WEFT_ENGINE_KEY": KEY}
    name = f"{rule.replace(' ', '-')}-{len(engines)}"
    with (settings.home / f"gateway-{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.cluster.gateway", rule],
            env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
    try:
        made = Process(Endpoint(f"http://127.0.0.1:{own.port}"), process)
        _wait(f"{made.endpoint.url}/health", process)
        yield made
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{url} ended with {process.returncode}; its log is in the home")
        try:
            if httpx.get(url, trust_env=False, timeout=5).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise TimeoutError(f"{url} did not answer")
