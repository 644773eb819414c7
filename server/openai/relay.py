"""One inference request from its body to its last byte.

Before the first byte an error is a status; after it, an error event, or a closed connection if the
response is not an event stream. One `AsyncExitStack` holds the leases of a request, so they are
released on every path, including when the client disconnects.
"""

import asyncio
import json
from asyncio import Future
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from merge.peft_format import open_folder
from registry.callers import Caller
from server.artifacts.provide import Provided, Provider
from server.artifacts.store import ArtifactStore
from server.auth import request_caller
from server.compose.meanings import Meanings
from server.compose.resolve import Bare, Planned, Stored, Target
from server.compose.retrieve import is_retrieval
from server.engine.protocol import (
    Engine,
    EngineLacksRoute,
    EngineResponse,
    EngineUnavailable,
    is_failed_load,
    is_missing_route,
)
from server.errors import RequestInvalid, envelope, error_response
from server.inference import ENDPOINTS
from server.meter import Measured, Meter
from server.openai.merged import AnsweredBy
from server.openai.requests import CompletionRequest, read_completion_request
from server.openai.usage import UsageReader
from server.pools import Pools
from server.salts import CacheSalts
from server.served_bases import ServedBases
from server.sse import frame, is_event_stream
from server.stopping import Stopping
from server.telemetry import record, spans
from server.telemetry.metrics import Timings


class Relay:
    """An ASGI app that answers requests to `ENDPOINTS` with the model that `model` names."""

    def __init__(
        self, bases: ServedBases, meanings: Meanings, provider: Provider, artifacts: ArtifactStore,
        stopping: Stopping, pools: Pools, salts: CacheSalts, meter: Meter, *, max_answers: int,
    ) -> None:  # fmt: skip
        self._salts, self._meter, self._max_answers = salts, meter, max_answers
        self._bases, self._meanings, self._pools = bases, meanings, pools
        self._provider, self._artifacts, self._stopping = provider, artifacts, stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Its work ends early when its client disconnects or the server
        stops."""
        request = Request(scope, receive)
        answer = _Answer(send, request_caller(scope))
        try:
            completion = await read_completion_request(
                request, ENDPOINTS[scope["path"]], max_answers=self._max_answers
            )
        except RequestInvalid as error:
            await error_response(error)(scope, receive, send)
            return
        except ClientDisconnect:
            return
        stop = self._stopping.future()
        if stop.done():  # an answer from memory would be too quick to be cut
            await answer.fail(stop.result())
            return
        work = asyncio.create_task(self._answer(completion, answer))
        leaving = asyncio.create_task(_disconnected(receive))
        waited: tuple[Future[Any], ...] = (work, leaving, stop)
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
        finally:
            left = leaving.done()
            leaving.cancel()
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
        if work.cancelled() and not left:
            await answer.fail(stop.result())

    async def _answer(self, completion: CompletionRequest, answer: "_Answer") -> None:
        timings = Timings()
        try:
            async with AsyncExitStack() as stack:
                metered = self._meter.request(answer.caller, tokens=completion.max_tokens)
                measured = stack.enter_context(metered)
                target = await self._target(completion, timings, answer.caller)
                asked = _Asked(completion, target, timings, answer)
                try:
                    response = await self._begun(stack, asked)
                except EngineUnavailable:
                    if not self._bases[target.base].fleet.has_another():
                        raise
                    response = await self._begun(stack, asked)
                await answer.relay(response, timings, completion, measured)
        except Exception as error:
            await answer.fail(error)

    async def _target(
        self, completion: CompletionRequest, timings: Timings, caller: Caller
    ) -> Target:
        """Return what a request names."""
        with timings.measure("resolve"):
            model, composition = completion.model, completion.composition
            prompt = completion.prompt if composition is None and is_retrieval(model) else ""
            return await self._meanings.of(model, prompt, caller, composition)

    async def _begun(self, stack: AsyncExitStack, asked: "_Asked") -> EngineResponse:
        """Return an engine's response once its first bytes are here; `stack` holds what it needs.

        Until then nothing was sent to the client, so another engine may answer in its place.
        """
        async with AsyncExitStack() as attempt:
            response = await self._respond(attempt, asked)
            with asked.timings.measure("engine"):
                await response.begin()
            stack.push_async_exit(attempt.pop_all())
            return response

    async def _respond(self, stack: AsyncExitStack, asked: "_Asked") -> EngineResponse:
        """Return the engine's response; `stack` holds the lease and the connection."""
        completion, target, answer = asked.completion, asked.target, asked.answer
        base = self._bases[target.base]
        base.fleet.require()  # before anything is merged
        if isinstance(target, Bare) or not completion.endpoint.uses_adapter:
            record.note(model=base.served_name, kind="base")
            if isinstance(target, Bare):
                answer.fall_back(target.fallback)
            salt, controls = await self._salts.of(answer.caller), answer.caller.operates
            body = completion.for_engine(base.served_name, salt=salt, controls=controls)
            engine = stack.enter_context(base.fleet.at(None))
            return await self._send(stack, engine, body, base.served_name, asked)
        async with AsyncExitStack() as first:
            response, provided = await self._by_adapter(first, target, asked)
            if response.status != 404 and not await is_failed_load(response):
                stack.push_async_exit(first.pop_all())
                return response
        # The engine was restarted after the load, or another gateway has removed the adapter, and
        # perhaps its files.
        self._provider.forget(provided.digest, provided.engine)
        response, _ = await self._by_adapter(stack, target, asked)
        return response

    async def _by_adapter(
        self, stack: AsyncExitStack, target: Stored | Planned, asked: "_Asked"
    ) -> tuple[EngineResponse, Provided]:
        """Return an engine's response by an adapter that it has loaded."""
        completion, timings, answer = asked.completion, asked.timings, asked.answer
        providing = self._provider.provide(target, timings, caller=answer.caller)
        provided = await stack.enter_async_context(providing)
        digest = provided.digest
        answer.name(AnsweredBy(digest, target, timings.new_slot))
        if completion.wants_prompt_logprobs:
            await self._pools.files.run(self._check_prompt_logprobs, digest)
        salt, controls = await self._salts.of(answer.caller), answer.caller.operates
        body = completion.for_engine(digest, salt=salt, controls=controls)
        return await self._send(stack, provided.engine, body, digest, asked), provided

    async def _send(
        self, stack: AsyncExitStack, engine: Engine, body: bytes, model: str, asked: "_Asked"
    ) -> EngineResponse:
        path = asked.completion.endpoint.path
        stack.enter_context(spans.span("generate"))  # to the last byte, as the lease
        with asked.timings.measure("engine"):
            response = await stack.enter_async_context(engine.send(path, body, model=model))
            if response.status == 404 and is_missing_route(await response.read()):
                raise EngineLacksRoute(path)
            return response

    def _check_prompt_logprobs(self, digest: str) -> None:
        """vLLM cannot tell which prompt rows an lm_head pair belongs to (engine/cpu_kernels.py)."""
        if "lm_head" in open_folder(self._artifacts.path(digest)).modules:
            raise RequestInvalid(
                "Log-probabilities of the prompt are not available for adapters of the lm_head.",
                "prompt_logprobs",
            )


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request with what it names, and where its answer goes."""

    completion: CompletionRequest
    target: Target
    timings: Timings
    answer: "_Answer"


class _Answer:
    """The response to one request: what was sent of it, and its caller."""

    def __init__(self, send: Send, caller: Caller) -> None:
        self._send = send
        self.caller = caller
        self._names: list[tuple[bytes, bytes]] = []
        self._by: AnsweredBy | None = None
        self.started = self.ended = self.events = False

    def name(self, by: AnsweredBy) -> None:
        """Let headers and `usage` say which artifact answers, and what was merged."""
        record.note(model=by.digest)
        self._by, self._names = by, by.headers

    def fall_back(self, reason: str) -> None:
        """Let a header say why the base answers in place of adapters."""
        if reason:
            self._names = [(b"x-weft-fallback", reason.encode())]

    async def fail(self, error: Exception) -> None:
        """End with an error: as a status, or as an event once the answer has begun.

        Raises:
            Exception: `error`, in the middle of a JSON document: the server closes the connection.
        """
        if self.ended:
            return
        if not self.started:
            response = error_response(error)
            await self._start(response.status_code, response.raw_headers)
            await self.chunk(bytes(response.body), last=True)
        elif not self.events:
            raise error
        else:
            # No `[DONE]` follows: the client sees that the answer is not whole. What was sent are
            # whole events.
            await self.chunk(frame(json.dumps(envelope(error)[1])), last=True)

    async def relay(
        self,
        response: EngineResponse,
        timings: Timings,
        completion: CompletionRequest,
        measured: Measured,
    ) -> None:
        """Send the engine's status and its bytes as they come, and count their tokens."""
        content_type = response.headers.get("content-type", "application/json")
        self.events = is_event_stream(content_type)
        headers = [
            (b"content-type", content_type.encode()),
            (b"server-timing", timings.header().encode()),
            *self._names,
            *((name.encode(), value.encode()) for name, value in measured.headers.items()),
        ]
        usage = UsageReader(
            measured, hidden=completion.hides_usage, prompt_tokens=completion.prompt_tokens,
            by=self._by,
        )  # fmt: skip
        if not self.events:
            # Reading the body before sending the head lets a failure become a clean error.
            body = usage.document(await response.read(), response.status)
            await self._start(response.status, headers)
            await self.chunk(body, last=True)
            return
        usage.begin_stream()
        await self._start(response.status, headers)
        async for data in response.chunks():
            part = usage.part(data)
            if part:
                await self.chunk(part)
        await self.chunk(usage.rest(), last=True)

    async def chunk(self, data: bytes, *, last: bool = False) -> None:
        self.ended = last
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
