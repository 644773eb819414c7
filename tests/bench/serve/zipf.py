"""A thousand compositions of twenty adapters, drawn by Zipf's law, against five compositions.

The disk's budget holds 800 of them, and the engine 16 in its slots: so some requests find their
composition evicted, and it is merged and loaded again; most find it in the engine's memory.
Rounds of the five, which stay in their slots, alternate with rounds of the thousand.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file

from server.engine.link import Endpoint
from tests.bench.serve.load import Figures, Part, Target, load, median, session, stream
from tests.engine.gateway import ADAPTERS, BASE, DEMO, Weft

COMPOSITIONS = 1000
ADAPTER_COUNT = 20
FEW = 5
SLOTS = 16
ARTIFACT_BYTES = 936_000  # of a composition here: rank 16 in float32
KEPT = 800  # compositions that the budget holds
BUDGET_BYTES = KEPT * ARTIFACT_BYTES
STREAMS = 8
ROUNDS = 8
REQUESTS = 256  # of one round
_COUNTS = ("weft_merge_misses_total", "weft_evictions_total")
_SLOTS = ("weft_slots_total", '{kind="composition"}')
_SEED = 0


async def measure(weft: Weft) -> Part:
    """Import adapters, merge the likeliest, and compare rounds of many with rounds of few."""
    names = import_variants(weft)
    rng = np.random.default_rng(_SEED)
    compositions = list(expressions(names, rng))
    gateway = Endpoint(weft.url)
    await fill(gateway, compositions[:KEPT])
    few, many = list[Figures](), list[Figures]()
    before = await counts(weft)
    for _ in range(ROUNDS):
        # The five stay among the slots' 16 while they are asked for; the first round of each kind
        # would load them, so one goes ahead.
        await load(Target(gateway, compositions[:FEW]), STREAMS, 2 * FEW)
        few.append(await load(Target(gateway, compositions[:FEW]), STREAMS, REQUESTS))
        many.append(await load(Target(gateway, draws(compositions, rng)), STREAMS, REQUESTS))
    merged, evicted, loaded = (
        round(after - earlier) for after, earlier in zip(await counts(weft), before, strict=True)
    )
    ratio = median(many).throughput / median(few).throughput
    drawn = ROUNDS * REQUESTS
    return Part(
        f"{COMPOSITIONS} compositions of {ADAPTER_COUNT} adapters, drawn by Zipf (s = 1), against "
        f"{FEW}, {SLOTS} slots (aim 0.90)",
        [
            f"{FEW:4} compositions {median(few).throughput:6.1f}/s, first token "
            f"{median(few).first_ms:6.1f} ms",
            f"{COMPOSITIONS:4} compositions {median(many).throughput:6.1f}/s, first token "
            f"{median(many).first_ms:6.1f} ms: x{ratio:.2f}",
            f"of {drawn} requests {merged} needed a merge and {loaded} a load; {evicted} "
            "artifacts were evicted",
        ],
        {"zipf": {
            "ratio": round(ratio, 3), "requests": drawn, "merges": merged, "loads": loaded,
            "evictions": evicted, "few_ttft_ms": round(median(few).first_ms, 2),
            "many_ttft_ms": round(median(many).first_ms, 2),
        }},
    )  # fmt: skip


def import_variants(weft: Weft) -> Sequence[str]:
    """Register scaled copies of the demo adapters, and return the names of all adapters."""
    names = list(ADAPTERS)
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(ADAPTER_COUNT - len(ADAPTERS)):
            origin = DEMO / "adapters" / ADAPTERS[number % len(ADAPTERS)]
            folder = Path(temporary) / f"{origin.name}-{number}"
            shutil.copytree(origin, folder)
            file = folder / "adapter_model.safetensors"
            factor = 1 + (number + 1) / 16  # which bfloat16 has
            save_file({name: factor * tensor for name, tensor in load_file(file).items()}, file)
            weft.registry.adapters.register(
                folder, name=folder.name, base=BASE, alias="prod", source="bench", actor="bench"
            )
            names.append(folder.name)
    return names


def expressions(names: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """Yield distinct compositions of two to four adapters."""
    seen = set[str]()
    while len(seen) < COMPOSITIONS:
        members = rng.choice(names, size=rng.integers(2, 5), replace=False)
        terms = ", ".join(f"{rng.integers(50, 150) / 100:.2f}*{name}" for name in members)
        expression = f"linear({terms}; rank=16)"
        if expression not in seen:
            seen.add(expression)
            yield expression


def draws(compositions: Sequence[str], rng: np.random.Generator) -> Sequence[str]:
    """Return one round's requests: the composition of rank k is k times rarer than the first."""
    shares = 1 / np.arange(1, len(compositions) + 1)
    drawn = rng.choice(len(compositions), size=REQUESTS, p=shares / shares.sum())
    return [compositions[number] for number in drawn]


async def fill(gateway: Endpoint, compositions: Sequence[str]) -> None:
    """Ask for each composition once, the rarest first, so that the likeliest were used last."""
    rest = iter(compositions[::-1])
    async with session(gateway) as http:

        async def client() -> None:
            for composition in rest:
                await stream(http, composition, tokens=1)

        await asyncio.gather(*(client() for _ in range(4)))


async def counts(weft: Weft) -> list[float]:
    """Return the merges that were needed, the evictions, and the loads into slots until now."""
    return [await weft.metric(name) for name in _COUNTS] + [await weft.metric(*_SLOTS)]
