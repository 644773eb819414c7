"""One run: compositions under load while parts of the cluster are lost, and come back.

At the end every answer is compared with what transformers and PEFT compute from the files of its
digest.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

from registry.storage.blobs import LocalBlobs
from server.stores import artifact_bucket
from tests.engine.churn.check import Reference, by_digest
from tests.engine.churn.requests import Ask, Draw, compositions, prompts
from tests.engine.cluster.clients import HEADER, Clients, Phase
from tests.engine.cluster.parts import Cluster, Part
from tests.engine.gateway import BASE

GONE_SECONDS, CALM_SECONDS = 20.0, 20.0
Start: TypeAlias = Callable[[Path], AbstractContextManager[Cluster]]


async def lose(parts: Sequence[Part], clients: Clients, say: Callable[[str], None]) -> None:
    """Lose each part once, for a while, and let clients go on meanwhile."""

    async def calm() -> None:
        await asyncio.sleep(CALM_SECONDS)
        say(clients.phase.row())

    await calm()
    for part in parts:
        clients.phases.append(Phase(part.name))
        await asyncio.to_thread(part.lose)
        await asyncio.sleep(GONE_SECONDS)
        await asyncio.to_thread(part.restore)
        say(clients.phase.row())
        clients.phases.append(Phase("nothing"))
        await calm()
    clients.running = False


async def run(made: Cluster, count: int, say: Callable[[str], None]) -> list[str]:
    """Merge `count` compositions, lose each part under load, and return what was wrong."""
    draw, expressions = Draw(1), compositions(1, count)
    clients = Clients(made.urls, made.key, draw)
    clients.phases = [Phase(f"nothing; {count} compositions are merged")]
    rest = iter(expressions)

    async def merge() -> None:
        for number, expression in enumerate(rest):
            await clients.until_answered(Ask(expression, prompts()[number % 8], stream=False))

    async with clients:
        await asyncio.gather(*(merge() for _ in range(4)))
        say(HEADER)
        say(clients.phase.row())
        clients.phases.append(Phase("nothing"))
        await asyncio.gather(clients.run(), lose(made.parts, clients, say))
    wrong = [problem for phase in clients.phases for problem in phase.problems]
    return wrong + await asyncio.to_thread(compare, made, clients)


def compare(made: Cluster, clients: Clients) -> list[str]:
    """Return a sentence for each answer that is not the greedy one of its digest."""
    bucket, reference, wrong = artifact_bucket(made.settings), Reference(), list[str]()
    assert bucket is not None
    local = LocalBlobs(made.settings.home / "compared")
    for digest, answers in by_digest(clients.answers).items():
        folder = Path() if digest == BASE else bucket.fetch(digest, local)
        wrong += reference.wrong(digest, folder, answers)
    return wrong


def main(count: int, say: Callable[[str], None], start: Start) -> int:
    """Run on the cluster that `start` gives for a folder; return the number of wrong things."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, start(Path(folder)) as made:
        say(f"The cluster is up after {time.monotonic() - began:.0f} s.\n")
        wrong = asyncio.run(run(made, count, say))
    say("\n".join(["", f"{len(wrong)} wrong, {time.monotonic() - began:.0f} s", *wrong]))
    return len(wrong)
