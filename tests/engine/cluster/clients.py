"""Clients behind a load balancer, as far as this needs one: they know every gateway.

A gateway that cannot be reached, or breaks off before the first byte, is replaced by another one,
as a load balancer does. 429 and 503 are asked again after the time that they name, and so is what a
load balancer of the cluster itself answers for a gateway that it has just lost.
"""

import asyncio
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Self

import httpx

from tests.engine.churn.requests import Ask, Draw
from tests.engine.churn.traffic import Foreign, send
from tests.engine.gateway import BASE

CLIENTS = 6
_LONGEST_PAUSE_SECONDS = 1.0
_ANSWER_SECONDS = 300.0


@dataclass
class Phase:
    """What clients saw while one thing was lost, or nothing."""

    name: str
    answered: int = 0
    moved: int = 0  # to another gateway before the first byte
    cut: int = 0  # streams that ended with an error event or without an end
    refused: Counter[str] = field(default_factory=Counter)  # asked again after a pause
    problems: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # from the first try to the answer

    def row(self) -> str:
        """Return a row of a Markdown table."""
        ordered = sorted(self.seconds) or [0.0]
        p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
        refused = ", ".join(f"{n} {code}" for code, n in sorted(self.refused.items())) or "0"
        return (
            f"| {self.name} | {self.answered} | {self.moved} | {refused} | {self.cut} | "
            f"{len(self.problems)} | {statistics.median(ordered):.2f} | {p99:.1f} | "
            f"{ordered[-1]:.1f} |"
        )


HEADER = (
    "| what is lost | answered | moved to the other gateway | refused, asked again | streams cut | "
    "wrong | median s | p99 s | longest s |\n|---|---|---|---|---|---|---|---|---|"
)


class Clients:
    """Asks for compositions until it is stopped, and notes what comes in the present phase.

    Args:
        gateways: their URLs, or that of a load balancer before them.
        key: that they want, if any.
        draw: the requests.
    """

    def __init__(self, gateways: Sequence[str], key: str | None, draw: Draw) -> None:
        self._gateways, self._draw = gateways, draw
        self._headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._http: list[httpx.AsyncClient] = []
        self._stack = AsyncExitStack()
        self._turn = 0
        self.running = True
        self.phases = [Phase("nothing")]
        self.answers: dict[tuple[str, str], Counter[tuple[int, ...]]] = defaultdict(Counter)

    @property
    def phase(self) -> Phase:
        """The present phase."""
        return self.phases[-1]

    async def __aenter__(self) -> Self:
        for url in self._gateways:
            client = httpx.AsyncClient(
                base_url=url, headers=self._headers, trust_env=False, timeout=120
            )
            self._http.append(await self._stack.enter_async_context(client))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def run(self) -> None:
        """Ask until `running` is false."""

        async def client() -> None:
            while self.running:
                await self.until_answered(self._draw.ask())

        await asyncio.gather(*(client() for _ in range(CLIENTS)))

    async def until_answered(self, ask: Ask) -> None:
        """Send a request until it is answered, and note the answer in the phase of its start."""
        phase, began = self.phase, time.monotonic()
        while time.monotonic() - began < _ANSWER_SECONDS:
            self._turn += 1
            try:
                reply = await send(self._http[self._turn % len(self._http)], ask)
            except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError) as error:
                if ask.stream and not isinstance(error, httpx.ConnectError):
                    phase.cut += 1  # a byte may have come
                else:
                    phase.moved += 1
                continue
            except Foreign as error:
                phase.refused[f"{error.status} of the load balancer"] += 1
                await asyncio.sleep(_LONGEST_PAUSE_SECONDS)
                continue
            except ValueError as error:
                if "[DONE]" not in str(error):
                    raise
                phase.cut += 1
                continue
            if reply.status in (429, 503):
                if reply.cut:
                    phase.cut += 1
                else:
                    phase.refused[f"{reply.status} {reply.code}"] += 1
                await asyncio.sleep(min(reply.pause or 1.0, _LONGEST_PAUSE_SECONDS))
                continue
            phase.seconds.append(time.monotonic() - began)
            self._judge(ask, reply.status, reply.digest, reply.tokens, reply.code)
            return
        phase.problems.append(f"{ask.model}: not answered in {_ANSWER_SECONDS:.0f} s")

    def _judge(
        self, ask: Ask, status: int, digest: str, tokens: tuple[int, ...], code: str
    ) -> None:
        if status != 200:
            self.phase.problems.append(f"{ask.model}: {status} {code}")
            return
        known = digest if ask.model == BASE else self._draw.digests.setdefault(ask.model, digest)
        if known != digest:
            self.phase.problems.append(f"{ask.model}: {digest[:12]} and {known[:12]}")
        self.phase.answered += 1
        self.answers[digest, ask.prompt][tokens] += 1
