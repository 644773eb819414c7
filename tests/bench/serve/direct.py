"""Engines that a benchmark starts without a gateway, with the command line of weft's own."""

import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from server.engine.command import engine_command
from server.engine.link import Endpoint
from server.settings import Settings
from tests.engine.gateway import START_SECONDS, free_port


@contextmanager
def engine(settings: Settings, **variables: str) -> Iterator[Endpoint]:
    """Run an engine with these environment variables; it may not be ready yet."""
    endpoint = Endpoint(f"http://127.0.0.1:{free_port()}", secrets.token_urlsafe(8))
    port = int(endpoint.url.rpartition(":")[2])
    environment = os.environ | {
        "VLLM_PLUGINS": "weft", "VLLM_API_KEY": str(endpoint.key), "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1", "WEFT_ARTIFACTS": str(settings.artifacts),
    } | variables  # fmt: skip
    settings.home.mkdir(parents=True, exist_ok=True)
    with (settings.home / f"engine-{port}.log").open("wb") as log:
        process = subprocess.Popen(
            engine_command(settings, port), env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield endpoint
    finally:
        process.terminate()
        process.wait(60)


def wait(engine: Endpoint) -> None:
    """Return when an engine is ready."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{engine.url}/health", trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError("an engine did not start")
