"""Whether merges slow streams that run: the gaps between a stream's parts, beside merges and alone.

Merges of all demo adapters at the engine's largest rank follow one another without a pause, each
with new weights. They are large, so that loading what they give, which is vLLM's own work and stops
its loop, comes to less than one gap in a hundred. Windows with and without merges alternate.
"""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import aiohttp

from server.engine.link import Endpoint
from tests.bench.serve.load import Part, percentile, session, stream
from tests.engine.gateway import ADAPTERS, Weft

WINDOWS = 4
STREAMS = (1, 8)
TOKENS = 400
_Gaps: TypeAlias = Sequence[float]  # milliseconds


async def measure(weft: Weft) -> Part:
    """Stream from one adapter alone, and while merges run."""
    lines, document = [], {}
    expressions = large_merges()
    async with session(Endpoint(weft.url)) as http:
        await stream(http, "zorp", TOKENS)
        await stream(http, next(expressions), 1)
        for streams in STREAMS:
            gaps: dict[str, list[float]] = defaultdict(list)
            merges = 0
            for _ in range(WINDOWS):
                gaps["alone"] += await running(http, streams)
                merging = asyncio.create_task(merge(http, expressions))
                await asyncio.sleep(0.3)  # the first has begun
                gaps["merging"] += await running(http, streams)
                merging.cancel()
                merges += await merging
            p99 = {kind: percentile(values, 0.99) for kind, values in gaps.items()}
            document[str(streams)] = {kind: round(ms, 2) for kind, ms in p99.items()} | {
                "ratio": round(p99["merging"] / p99["alone"], 2)
            }
            lines += [
                f"{streams} streams, {kind:8} p50 {percentile(values, 0.5):6.1f} | p99 "
                f"{p99[kind]:6.1f} | worst {max(values):6.1f} | {len(values)} gaps"
                for kind, values in gaps.items()
            ]
            lines.append(f"{streams} streams, p99 x{p99['merging'] / p99['alone']:.2f}, beside "
                         f"{merges} merges")  # fmt: skip
    return Part(
        "gaps between the parts of a stream alone and beside large merges, ms (p99: aim x1.5)",
        lines, {"stall_p99_ms": document},
    )  # fmt: skip


def large_merges() -> Iterator[str]:
    """Yield expressions that are large and new: LEGO of all demo adapters, with new weights."""
    others = ", ".join(ADAPTERS[1:])
    for number in itertools.count():
        first = f"{0.5 + number / 100:.2f}*{ADAPTERS[0]}"
        yield f"lego({first}, {others}; rank=64, n_init=20)"


async def running(http: aiohttp.ClientSession, streams: int) -> _Gaps:
    """Return the gaps of streams that run together."""
    answers = await asyncio.gather(*(stream(http, "zorp", TOKENS) for _ in range(streams)))
    return [gap for answer in answers for gap in answer.gaps_ms]


async def merge(http: aiohttp.ClientSession, expressions: Iterator[str]) -> int:
    """Ask for one merge after another until cancelled; return how many were answered."""
    answered = 0
    try:
        for expression in expressions:
            await stream(http, expression, 1)
            answered += 1
    except asyncio.CancelledError:
        pass
    return answered
