"""A deterministic engine without a model, for unit tests of the gateway.

An answer names the model that gave it; a digest that is not loaded is a 404, as in vLLM. Not
covered: what vLLM itself does, which is tested on vLLM.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from server.engine.link import Outage
from server.engine.protocol import EngineAdapters, EngineBusy, EngineRefused, EngineUnavailable
from server.sse import EVENT_STREAM, frame


class FakeResponse:
    """See `EngineResponse`."""

    def __init__(
        self, status: int, headers: Mapping[str, str], parts: list[bytes], breaks: bool
    ) -> None:
        self.status, self.headers = status, headers
        self._parts, self._breaks = parts, breaks

    async def begin(self) -> None:
        """See `EngineResponse`: a body that is no stream breaks here, if it breaks."""
        if self.headers["content-type"] != EVENT_STREAM:
            await self.read()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the parts; then raise, if the engine is set to break."""
        for part in self._parts:
            yield part
            await asyncio.sleep(0)
        if self._breaks:
            raise EngineUnavailable("the engine closed the connection")

    async def read(self) -> bytes:
        """Return the whole body."""
        return b"".join([part async for part in self.chunks()])


class FakeEngine:
    """Records the calls that it gets; `refuse`, `up` and `breaks` set how it fails."""

    def __init__(self, base: str, name: str = "fake") -> None:
        self._base, self.name = base, name
        self.generation = 1
        self.lost = Outage()
        self.up = True
        self.breaks = False
        self.refuse: dict[str, str] = {}  # digest -> reason
        self.loads: list[str] = []
        self.loaded: set[str] = set()
        self.bodies: list[dict[str, object]] = []
        self.running: Counter[str] = Counter()

    def available(self) -> bool:
        """See `Engine`."""
        return self.up

    async def load(self, digest: str) -> None:
        """See `Engine`."""
        self._require_up()
        if digest in self.refuse:
            raise EngineRefused(digest, self.refuse[digest])
        await asyncio.sleep(0.01)  # lets concurrent loads overlap
        self.loads.append(digest)
        self.loaded.add(digest)

    async def remove(self, digest: str) -> None:
        """See `Engine`."""
        self._require_up()
        if self.running[digest]:
            raise EngineBusy(digest, f"{self.running[digest]} requests")
        self.loaded.discard(digest)

    async def adapters(self) -> EngineAdapters:
        """See `Engine`."""
        self._require_up()
        loaded = frozenset(self.loaded)
        return EngineAdapters(loaded, loaded, +self.running)

    @asynccontextmanager
    async def send(self, path: str, body: bytes, *, model: str) -> AsyncIterator[FakeResponse]:
        """See `Engine`."""
        self._require_up()
        request = json.loads(body)
        self.bodies.append(request)
        assert request["model"] == model
        self.running[model] += 1
        try:
            async with self.lost.ends():
                yield self._answer(path, model, request)
        finally:
            self.running[model] -= 1

    def restart(self) -> None:
        """Lose all memory, as a restarted engine does."""
        self.generation += 1
        self.loaded.clear()

    def _answer(self, path: str, model: str, request: Mapping[str, Any]) -> FakeResponse:
        if model != self._base and model not in self.loaded:
            error = {"error": {"message": f"The model `{model}` does not exist.", "code": 404}}
            return _json(404, error, breaks=False)
        text = f"answered by {model}"
        if path == "/tokenize":
            tokens = list(str(request.get("prompt", "")).encode())
            return _json(200, {"count": len(tokens), "tokens": tokens}, breaks=self.breaks)
        if path == "/v1/responses":
            return self._respond(model, text, stream=request.get("stream") is True)
        if not path.endswith("/completions"):
            return _json(404, {"detail": "Not Found"}, breaks=False)
        chat = path.endswith("/chat/completions")
        usage = {"prompt_tokens": 5, "completion_tokens": len(text.split(" "))}
        if not request.get("stream"):
            choice = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
            body = {"model": model, "choices": [choice], "usage": usage}
            return _json(200, body, breaks=self.breaks)
        parts = []
        for word in text.split(" "):
            choice = {"delta": {"content": word + " "}} if chat else {"text": word + " "}
            parts.append(frame(json.dumps({"model": model, "choices": [choice]})))
        if (request.get("stream_options") or {}).get("include_usage"):
            parts.append(frame(json.dumps({"model": model, "choices": [], "usage": usage})))
        if not self.breaks:
            parts.append(frame("[DONE]"))
        return FakeResponse(200, {"content-type": EVENT_STREAM}, parts, self.breaks)

    def _respond(self, model: str, text: str, *, stream: bool) -> FakeResponse:
        words = text.split(" ")
        usage = {"input_tokens": 5, "output_tokens": len(words)}
        whole = {"model": model, "output": [{"content": [{"text": text}]}], "usage": usage}
        if not stream:
            return _json(200, whole, breaks=self.breaks)
        events: list[dict[str, object]] = [
            {"type": "response.output_text.delta", "delta": f"{word} "} for word in words
        ]
        last = [] if self.breaks else [{"type": "response.completed", "response": whole}]
        parts = [frame(json.dumps(event)) for event in [*events, *last]]
        return FakeResponse(200, {"content-type": EVENT_STREAM}, parts, self.breaks)

    def _require_up(self) -> None:
        if not self.up:
            raise EngineUnavailable("the engine is restarting")


def _json(status: int, body: Mapping[str, object], *, breaks: bool) -> FakeResponse:
    return FakeResponse(
        status, {"content-type": "application/json"}, [json.dumps(body).encode()], breaks
    )
