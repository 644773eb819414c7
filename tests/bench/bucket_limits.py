"""What an object store of this machine gives one process: requests and bytes in a second.

A part of `make bench-limits`: SeaweedFS beside the client, so that both share the cores. A network
and a cloud's store have other limits; what a fetch asks for is the same.
"""

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from registry.storage.objects import PIECE_BYTES, Objects
from tests.seaweed import seaweed

WEIGHTS_BYTES = 84 * 2**20  # rank 16 on all linear layers of an 8B model
SMALL_BYTES, SMALL_REQUESTS, THREADS = 1000, 2000, 8
ROUNDS = 3


def measure(folder: Path) -> Mapping[str, float]:
    """Return requests of small objects and MB of a large one in a second, and the client's CPU."""
    file = folder / "weights"
    file.write_bytes(np.random.default_rng(0).bytes(WEIGHTS_BYTES))
    with seaweed(folder / "seaweed") as server, patch.dict(os.environ, server.environ):
        objects = Objects(server.url)
        objects.put("small", bytes(SMALL_BYTES))
        figures: dict[str, float] = {
            "small_gets_per_second": _rate(lambda: objects.get("small")),
            "lists_per_second": _rate(lambda: list(objects.list("small"))),
            "small_puts_per_second": _rate(lambda: objects.put("small", bytes(SMALL_BYTES))),
        }
        cpu = time.process_time()
        up = min(_seconds(lambda: objects.upload(file, "large")) for _ in range(ROUNDS))
        figures["upload_mb_per_second"] = WEIGHTS_BYTES / 1e6 / up
        figures["upload_cpu_seconds"] = (time.process_time() - cpu) / ROUNDS
        cpu, target = time.process_time(), folder / "fetched"
        figures["download_mb_per_second"] = (
            WEIGHTS_BYTES
            / 1e6
            / min(_seconds(lambda: _download(objects, target)) for _ in range(ROUNDS))
        )
        figures["download_cpu_seconds"] = (time.process_time() - cpu) / ROUNDS
    # A fetch asks for the manifest, the list, the config and the pieces of the weights.
    figures["requests_of_a_fetch"] = 3 + -(-WEIGHTS_BYTES // PIECE_BYTES)
    return figures


def _download(objects: Objects, target: Path) -> None:
    target.unlink(missing_ok=True)
    objects.download("large", WEIGHTS_BYTES, target)


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _rate(call: Callable[[], Any]) -> float:
    """Return the calls in a second, from several threads."""
    with ThreadPoolExecutor(THREADS) as threads:
        began = time.perf_counter()
        for _ in threads.map(lambda _: call(), range(SMALL_REQUESTS)):
            pass
        return SMALL_REQUESTS / (time.perf_counter() - began)
