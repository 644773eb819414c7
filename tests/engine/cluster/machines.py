"""The processes of a small cluster, which a run kills and starts again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from server.engine.command import engine_command
from server.settings import Settings
from tests.engine.gateway import START_SECONDS, environment, free_port

KEY = "cluster"


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
