"""The processes of a small cluster, which a run kills and starts again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from server.cli.demo import import_demo_adapters
from server.engine.command import engine_command
from server.settings import Settings
from tests.engine.cluster.parts import Cluster, Part, backing
from tests.engine.gateway import START_SECONDS, environment, free_port, serve_settings

KEY = "cluster"
# Of the folders of engines: a fraction of the compositions, so that nodes fetch all the time.
BUDGET_BYTES = 40 * 2**20


class Program:
    """A process that listens on one port, also after it was killed and started again.

    Args:
        command: what to run.
        environ: its whole environment.
        url: answers 200 once the process is up.
        log: what it prints is added to this file.
    """

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], url: str, log: Path
    ) -> None:
        self._command, self._environ, self._url, self._log = command, environ, url, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; do not wait."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=dict(self._environ), stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def wait(self) -> None:
        """Return once the process answers.

        Raises:
            RuntimeError: it has ended.
            TimeoutError: it does not answer in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"{self._command[:4]} ended; its log is {self._log}")
            try:
                if httpx.get(self._url, trust_env=False, timeout=5).is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
        raise TimeoutError(f"{self._url} does not answer; its log is {self._log}")

    def restart(self) -> None:
        """Start the process; return once it answers. Raises as `wait`."""
        self.start()
        self.wait()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the process and its children, at once unless another signal is given."""
        if self._process is not None:
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(60)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


class EngineMachine:
    """A machine with a vLLM and the node that brings adapters to its own folder.

    Args:
        settings: of engine and node: the base, the store and the budget; `home` is the machine's.
    """

    def __init__(self, settings: Settings) -> None:
        engine_port, node_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{engine_port}"
        node_url = f"http://127.0.0.1:{node_port}"
        settings.artifacts.mkdir(parents=True)
        # No credentials of the store: only the node talks to it.
        environ = {name: os.environ[name] for name in os.environ if not name.startswith("AWS_")} | {
            "VLLM_PLUGINS": "weft", "VLLM_API_KEY": KEY, "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "WEFT_ARTIFACTS": str(settings.artifacts), "WEFT_NODE_URL": node_url,
        }  # fmt: skip
        log = settings.home / "engine.log"
        health = f"{self.url}/health"
        self.engine = Program(engine_command(settings, engine_port), environ, health, log)
        command = [sys.executable, "-m", "server.cli", "node", "--port", str(node_port)]
        own = settings.model_copy(update={"engine_url": (self.url,)})
        self.node = Program(
            command, environment(own) | {"WEFT_ENGINE_KEY": KEY}, f"{node_url}/health",
            settings.home / "node.log",
        )  # fmt: skip

    def start(self) -> None:
        """Start both; do not wait."""
        self.node.start()
        self.engine.start()

    def kill(self) -> None:
        """End both."""
        self.engine.kill()
        self.node.kill()


def gateway(settings: Settings, engines: Sequence[str]) -> Program:
    """Return a gateway on these engines; the settings name its home, port, database and store."""
    own = settings.model_copy(update={"engine_url": tuple(engines)})
    return Program(
        [sys.executable, "-m", "server.cli", "serve"],
        environment(own) | {"WEFT_ENGINE_KEY": KEY},
        f"http://127.0.0.1:{settings.port}/ready", settings.home / "gateway.log",
    )  # fmt: skip


@contextmanager
def on_machines(folder: Path) -> Iterator[Cluster]:
    """Start two gateways, two engines, a database and a store, and end them."""
    with ExitStack() as stack:
        back = stack.enter_context(backing(folder))
        common = {**back.settings, "max_loras": 4, "max_cpu_loras": 16}
        own = serve_settings(folder / "own", **common)
        own.home.mkdir()
        import_demo_adapters(own)
        engines = [
            EngineMachine(
                serve_settings(folder / f"node-{n}", artifact_budget_bytes=BUDGET_BYTES, **common)
            )
            for n in range(2)
        ]
        for machine in engines:
            stack.callback(machine.kill)
            machine.start()
        for machine in engines:
            machine.engine.wait()
        places = [
            serve_settings(folder / f"gateway-{n}", port=free_port(), **common) for n in range(2)
        ]
        gateways = [gateway(place, [machine.url for machine in engines]) for place in places]
        for program in gateways:
            stack.callback(program.kill)
            program.start()
        for program in gateways:
            program.wait()
        urls = [f"http://127.0.0.1:{place.port}" for place in places]
        engine, first = engines[0].engine, gateways[0]
        parts = (
            Part("an engine, killed", engine.kill, engine.restart),
            Part("a gateway, killed", first.kill, first.restart),
        )
        yield Cluster((*parts, *back.parts), urls, None, own)
