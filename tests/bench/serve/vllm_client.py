"""vLLM's own benchmark client, `vllm bench serve`, with compositions as its models.

It sends each name of `--lora-modules` as `model`, so that a composition needs no preparation.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from server.engine.link import Endpoint
from tests.bench.serve.load import Part, session, stream
from tests.engine.clients.scripts import VLLM_BENCH
from tests.engine.gateway import Weft

COMPOSITIONS = ("lego(zorp, blim; rank=16)", "cat(zorp, krun)")
PROMPTS, STREAMS = 128, 8


async def measure(weft: Weft) -> Part:
    """Run the client against the gateway with compositions, and the engine with their digests."""
    gateway, engine = Endpoint(weft.url), weft.engine_endpoint()
    async with session(gateway) as http:
        answers = [await stream(http, name) for name in COMPOSITIONS]
    digests = [answer.headers["x-weft-artifact"] for answer in answers]
    runs = {
        "the engine, digests": await asyncio.to_thread(bench, weft, engine, digests),
        "the gateway, compositions": await asyncio.to_thread(bench, weft, gateway, COMPOSITIONS),
    }
    direct, through = runs.values()
    ratio = through["request_throughput"] / direct["request_throughput"]
    added = through["median_ttft_ms"] - direct["median_ttft_ms"]
    return Part(
        f'vLLM\'s own client: vllm bench serve --lora-modules "{COMPOSITIONS[0]}" …, {STREAMS} '
        "streams",
        [
            f"{name:32}{run['request_throughput']:6.1f}/s {run['median_ttft_ms']:7.1f} ms"
            for name, run in runs.items()
        ],
        {"vllm_bench": {"throughput_ratio": round(ratio, 3), "ttft_added_ms": round(added, 2)}},
    )


def bench(weft: Weft, endpoint: Endpoint, models: Sequence[str]) -> dict[str, Any]:
    """Run the client and return its figures.

    Raises:
        subprocess.CalledProcessError: it failed.
        AssertionError: a request was not answered.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [
            sys.executable, "-c", VLLM_BENCH, "--backend", "openai-chat",
            "--base-url", endpoint.url, "--endpoint", "/v1/chat/completions",
            "--model", weft.settings.served_base, "--tokenizer", weft.settings.model,
            "--lora-modules", *models, "--dataset-name", "random", "--random-input-len", "20",
            "--random-output-len", "32", "--ignore-eos", "--num-prompts", str(PROMPTS),
            "--max-concurrency", str(STREAMS), "--save-result", "--result-filename", str(result),
        ]  # fmt: skip
        environment = os.environ | {"OPENAI_API_KEY": endpoint.key or "", "DO_NOT_TRACK": "1"}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        document: dict[str, Any] = json.loads(result.read_text())
    assert document["completed"] == PROMPTS, document
    return document
