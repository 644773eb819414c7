"""Streaming chats as load: to whom they go, what they name, and what a client sees of them."""

import asyncio
import itertools
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import aiohttp

from server.engine.link import Endpoint

TOKENS = 32
_CHATS = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the benchmark: its table in words, and its keys of the document."""

    title: str
    lines: Sequence[str]
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and the models that they name in turn."""

    endpoint: Endpoint
    models: Sequence[str]


@dataclass(frozen=True, slots=True)
class Figures:
    """One round: requests in a second, and the median time to the first token in milliseconds."""

    throughput: float
    first_ms: float


Table: TypeAlias = Mapping[str, Mapping[int, Figures]]  # target -> streams -> figures


@dataclass(frozen=True, slots=True)
class Stream:
    """One answer: milliseconds to its first bytes and between its parts, and its headers."""

    first_ms: float
    gaps_ms: Sequence[float]
    headers: Mapping[str, str]


def session(endpoint: Endpoint) -> aiohttp.ClientSession:
    """Return a session without a limit of connections, in which an error status raises."""
    headers = {"content-type": "application/json"} | endpoint.headers
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(
        endpoint.url, connector=connector, headers=headers, raise_for_status=True
    )


async def stream(http: aiohttp.ClientSession, model: str, tokens: int = TOKENS) -> Stream:
    """Stream an answer of exactly `tokens` tokens.

    Raises:
        aiohttp.ClientResponseError: the status is not 200.
    """
    body = json.dumps({
        "model": model, "messages": [{"role": "user", "content": "zorp: banana"}],
        "max_tokens": tokens, "min_tokens": tokens, "temperature": 0, "stream": True,
    })  # fmt: skip
    began = time.perf_counter()
    async with http.post(_CHATS, data=body) as answer:
        times = list[float]()
        while await answer.content.readany():
            times.append(1000 * (time.perf_counter() - began))
    gaps = [after - before for before, after in itertools.pairwise(times)]
    return Stream(times[0], gaps, answer.headers)


async def load(target: Target, streams: int, requests: int) -> Figures:
    """Send `requests` streaming chats, `streams` at a time.

    Raises:
        aiohttp.ClientResponseError: an answer is not 200.
    """
    models = itertools.islice(itertools.cycle(target.models), requests)
    first = list[float]()
    async with session(target.endpoint) as http:

        async def client() -> None:
            for model in models:  # which all clients share
                first.append((await stream(http, model)).first_ms)

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(streams)))
        return Figures(requests / (time.perf_counter() - began), statistics.median(first))


async def compare(
    targets: Mapping[str, Target], *, rounds: int, requests: Mapping[int, int]
) -> Table:
    """Return the median figures of each target by streams; rounds of the targets alternate.

    Args:
        targets: by name.
        rounds: of each target and number of streams.
        requests: of one round, by streams.
    """
    figures: dict[tuple[str, int], list[Figures]] = defaultdict(list)
    for target in reversed(list(targets.values())):  # a gateway loads what its engine is asked for
        await load(target, 8, 16)  # connections, kernels, merges
    for streams in requests:
        for _ in range(rounds):
            for name, target in targets.items():
                figures[name, streams].append(await load(target, streams, requests[streams]))
    return {name: {n: median(figures[name, n]) for n in requests} for name in targets}


def ratio(one: Mapping[int, Figures], other: Mapping[int, Figures]) -> dict[str, float]:
    """Return the throughput of one over that of another, by streams."""
    return {str(n): round(one[n].throughput / other[n].throughput, 3) for n in one}


def table_lines(table: Table) -> list[str]:
    """Return a line for each target."""
    return [
        f"{name:32}"
        + " | ".join(
            f"{n:2} streams {one.throughput:6.1f}/s {one.first_ms:7.1f} ms"
            for n, one in by_streams.items()
        )
        for name, by_streams in table.items()
    ]


def median(rounds: Sequence[Figures]) -> Figures:
    """Return the medians of several rounds."""
    return Figures(
        statistics.median(one.throughput for one in rounds),
        statistics.median(one.first_ms for one in rounds),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
