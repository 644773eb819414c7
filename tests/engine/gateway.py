"""A whole weft for the engine tests: `weft serve` as a process, called over HTTP."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from pydantic import SecretStr

from registry.service import Registry
from server.engine.link import Endpoint
from server.home import open_registry
from server.settings import Settings

START_SECONDS = 250  # below the limit of a test; other tests use the cores meanwhile
BASE = "weft/demo-llama"
DEMO = Path(__file__).parents[2] / "deploy" / "demo"
ADAPTERS = tuple(sorted(path.name for path in (DEMO / "adapters").iterdir()))


@dataclass(frozen=True, slots=True)
class Weft:
    """A running gateway. `settings` are the ones it was started with."""

    settings: Settings
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """The URL that it listens on."""
        return f"http://127.0.0.1:{self.settings.port}"

    @property
    def registry(self) -> Registry:
        """The registry that it serves, opened in this process."""
        return open_registry(self.settings)[0]

    @property
    def pairs(self) -> int:
        """The number of gateways times that of engines: each loads an adapter once into each."""
        return 1

    def workers(self) -> list[int]:
        """Return the process ids of the children that merge, check and learn; not the engine's."""
        return [
            pid
            for pid in children(self.process.pid)
            if b"multiprocessing.spawn" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    def hooks(self) -> dict[str, list[Any]]:
        """Return what a client calls before each request."""
        return {}

    def openai(self) -> AsyncOpenAI:
        """Return an OpenAI client that never retries, so that every error is seen."""
        http = DefaultAsyncHttpxClient(event_hooks=self.hooks(), trust_env=False, timeout=120)
        return AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key="unused", http_client=http, max_retries=0
        )

    def http(self) -> httpx.AsyncClient:
        """Return a plain HTTP client."""
        return httpx.AsyncClient(
            base_url=self.url, event_hooks=self.hooks(), trust_env=False, timeout=120
        )

    async def complete(self, http: httpx.AsyncClient, model: str, prompt: str, **more: Any) -> Any:
        """Request a greedy chat answer and return the response's JSON.

        Raises:
            AssertionError: the answer is not 200; its body is in the message.
        """
        messages = [{"role": "user", "content": prompt}]
        body = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 16} | more
        response = await http.post("/v1/chat/completions", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    async def tokens(self, model: str, prompts: list[str], at_once: int = 10) -> list[list[int]]:
        """Return the token ids of greedy answers without the end token; `at_once` run at a time."""
        gate = asyncio.Semaphore(at_once)
        async with self.http() as http:

            async def one(prompt: str) -> list[int]:
                async with gate:
                    body = await self.complete(http, model, prompt, return_token_ids=True)
                return [token for token in body["choices"][0]["token_ids"] if token != END]

            return await asyncio.gather(*(one(prompt) for prompt in prompts))

    async def metric(self, name: str, labels: str = "") -> float:
        """Return one value of /metrics, or 0 if it is not there yet."""
        async with self.http() as http:
            text = (await http.get("/metrics")).text
        prefix = f"{name}{labels} "
        found = [line for line in text.splitlines() if line.startswith(prefix)]
        return float(found[0].removeprefix(prefix)) if found else 0.0

    def engine_pid(self) -> int:
        """Return the process id of vLLM's API server."""
        for pid in children(self.process.pid):
            if b"vllm.entrypoints" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        raise AssertionError("the gateway has no engine")

    def core_pid(self) -> int:
        """Return the process id of the engine's core."""
        for pid in children(self.engine_pid()):
            if "EngineCor" in Path(f"/proc/{pid}/comm").read_text():
                return pid
        raise AssertionError("the engine has no core")

    def engine_endpoint(self) -> Endpoint:
        """Return the engine's own address and key."""
        process = Path(f"/proc/{self.engine_pid()}")
        command = (process / "cmdline").read_bytes().decode().split("\0")
        environ = (process / "environ").read_bytes().decode().split("\0")
        key = next(pair.partition("=")[2] for pair in environ if pair.startswith("VLLM_API_KEY="))
        return Endpoint(f"http://127.0.0.1:{command[command.index('--port') + 1]}", key)


END = 1  # the demo tokenizer's end token


def children(pid: int) -> list[int]:
    """Return the direct children of a process."""
    path = Path(f"/proc/{pid}/task")
    found: list[int] = []
    for task in path.iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    """Return the children of a process, their children, and so on."""
    direct = children(pid)
    return direct + [below for child in direct for below in descendants(child)]


def alive(pid: int) -> bool:
    """Return whether a process runs; an ended one that is not yet reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve_settings(home: Path, **more: Any) -> Settings:
    """Return settings for a demo gateway: more adapters than slots, and few kept in memory."""
    values: dict[str, Any] = {
        "home": home,
        "port": free_port(),
        "model": str(DEMO / "base"),
        "served_base": BASE,
        "dtype": "float32",
        "max_loras": 3,
        "max_cpu_loras": 4,
        "warm_artifacts": 0,  # tests say what the engine has
        "max_lora_rank": 64,
        "max_model_len": 512,
        "engine_start_seconds": START_SECONDS,
    }
    return Settings(**(values | more))


def environment(settings: Settings) -> dict[str, str]:
    """Return an environment that makes `weft serve` read exactly `settings`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WEFT_")}
    for name, value in settings.model_dump(exclude_defaults=True).items():
        clean[f"WEFT_{name.upper()}"] = (
            ",".join(map(_text, value)) if isinstance(value, tuple) else _text(value)
        )
    return clean


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return json.dumps(value)
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


@contextmanager
def running(
    settings: Settings,
    *,
    extra_environment: Mapping[str, str] | None = None,
    wait_for: str = "/ready",
    **popen: Any,
) -> Iterator[Weft]:
    """Start a gateway and its engines, yield when `wait_for` answers 200, and end them."""
    log = settings.home / "gateway.log"
    settings.home.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "server.cli", "serve"],
            env=environment(settings) | dict(extra_environment or {}),
            stdout=output,
            stderr=subprocess.STDOUT,
            **popen,
        )
    weft = Weft(settings, process)
    try:
        _wait(weft, log, wait_for)
        yield weft
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(weft: Weft, log: Path, path: str) -> None:
    deadline = time.monotonic() + weft.settings.engine_start_seconds
    with httpx.Client(trust_env=False) as http:
        while time.monotonic() < deadline:
            if weft.process.poll() is not None:
                raise AssertionError(f"weft exited:\n{log.read_text()[-5000:]}")
            try:
                if http.get(f"{weft.url}{path}").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
    raise AssertionError(f"weft was not ready:\n{log.read_text()[-5000:]}")


def parse_events(body: str) -> list[dict[str, Any]]:
    """Return the JSON events of a server-sent stream, without `[DONE]`."""
    lines = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]
