"""Clients that send requests until each has an answer, and judge what they get.

An answer is a status of HTTP and, for a stream, an end: `[DONE]` or an error event. 429 and 503 are
answers that name a time, after which the client asks again.
"""

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.engine.churn.requests import Ask, Draw
from tests.engine.gateway import Weft, parse_events

CLIENTS = 8
# A restart of the engine on a busy machine, and the queue behind it.
ANSWER_SECONDS = 800.0
_LONGEST_PAUSE_SECONDS = 2.0
_INTERRUPTED = 503  # a stream that an error event ended counts as the status it could not have


@dataclass
class Results:
    """What came of the requests. `problems` has a sentence for each that went wrong."""

    done: int = 0
    tries: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    # By digest and prompt: the token ids that were answered, the end token included.
    answers: dict[tuple[str, str], Counter[tuple[int, ...]]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Reply:
    """One try: `code` is the error's, `pause` what Retry-After says, in seconds.

    `cut`: an error event has ended the stream.
    """

    status: int
    digest: str = ""
    tokens: tuple[int, ...] = ()
    code: str = ""
    pause: float | None = None
    cut: bool = False


class Foreign(ValueError):
    """An error that is not OpenAI's, as of a load balancer whose gateway was killed."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status} with a body that is not OpenAI's")
        self.status = status


class Traffic:
    """Sends `count` requests, a few at a time."""

    def __init__(self, weft: Weft, draw: Draw, count: int) -> None:
        self._weft, self._draw, self._left = weft, draw, count
        self.results = Results()

    async def run(self, done: Callable[[int], None]) -> None:
        """Send every request; call `done` with their number after each."""

        async def client() -> None:
            async with self._weft.http() as http:
                while self._left > 0:
                    self._left -= 1
                    await self._until_answered(http, self._draw.ask())
                    self.results.done += 1
                    done(self.results.done)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))

    async def _until_answered(self, http: httpx.AsyncClient, ask: Ask) -> None:
        began = time.monotonic()
        while time.monotonic() - began < ANSWER_SECONDS:
            settled = ask.moving.settled if ask.moving else 0
            retired = ask.leaving is not None and ask.leaving.retired
            try:
                reply = await send(http, ask)
            except (httpx.HTTPError, ValueError, KeyError) as error:
                self.results.tries["no answer"] += 1
                self._problem(ask, f"no answer: {error!r}")
                return
            self.results.tries[f"{reply.status} {reply.code}".strip()] += 1
            if reply.status in (429, 503):
                if reply.pause is None:
                    self._problem(ask, f"{reply.status} {reply.code} without Retry-After")
                await asyncio.sleep(min(reply.pause or 1.0, _LONGEST_PAUSE_SECONDS))
                continue
            self.results.seconds.append(time.monotonic() - began)
            self._judge(ask, reply, settled, retired=retired)
            return
        self._problem(ask, f"not answered in {ANSWER_SECONDS:.0f} s")

    def _judge(self, ask: Ask, reply: Reply, settled: int, *, retired: bool) -> None:
        """Compare a final answer with what the name meant while the request ran."""
        if reply.status != 200:
            expected = ask.leaving is not None and ask.leaving.retiring
            if not (expected and (reply.status, reply.code) == (410, "version_retired")):
                self._problem(ask, f"answered {reply.status} {reply.code}")
            return
        if retired:
            self._problem(ask, "answered after its retirement")
        if ask.moving and reply.digest not in ask.moving.digests[settled:]:
            self._problem(ask, f"answered by {reply.digest[:12]}, which the alias does not name")
        if not ask.moving and not ask.leaving:
            known = self._draw.digests.setdefault(ask.model, reply.digest)
            if known != reply.digest:
                self._problem(ask, f"answered by {reply.digest[:12]} and by {known[:12]}")
        self.results.answers[reply.digest, ask.prompt][reply.tokens] += 1

    def _problem(self, ask: Ask, text: str) -> None:
        self.results.problems.append(f"{ask.model}: {text}")


async def send(http: httpx.AsyncClient, ask: Ask) -> Reply:
    """Send a request once and return the whole answer.

    Raises:
        httpx.HTTPError: there is none.
        ValueError, KeyError: it is not OpenAI's format.
    """
    body = {
        "model": ask.model, "messages": [{"role": "user", "content": ask.prompt}],
        "temperature": 0, "max_tokens": 16, "stream": ask.stream, "return_token_ids": True,
    }  # fmt: skip
    response = await http.post("/v1/chat/completions", json=body)
    text = response.headers.get("retry-after")
    pause = None if text is None else float(text)
    if response.status_code != 200:
        try:
            code = json.loads(response.text)["error"]["code"]
        except ValueError as error:
            raise Foreign(response.status_code) from error
        return Reply(response.status_code, code=str(code), pause=pause)
    if not ask.stream:
        return _answered(response.json()["model"], [response.json()["choices"][0]])
    events = parse_events(response.text)
    if "error" in events[-1]:
        return Reply(_INTERRUPTED, code=events[-1]["error"]["code"], pause=1.0, cut=True)
    if "data: [DONE]" not in response.text:
        raise ValueError("the stream ends without [DONE]")
    return _answered(events[0]["model"], [e["choices"][0] for e in events if e["choices"]])


def _answered(digest: str, choices: list[dict[str, Any]]) -> Reply:
    tokens = [token for choice in choices for token in choice.get("token_ids") or ()]
    if not tokens:
        raise ValueError("the answer has no token ids")
    return Reply(200, digest, tuple(tokens))
