"""weft's plug-in: loads and removes adapters by digest. Runs in vLLM's processes.

It uses vLLM's public extension points: a LoRA resolver (`vllm.general_plugins`) and HTTP routes
(`vllm.endpoint_plugins`). It neither merges nor reads SQL: an adapter is a folder under
`WEFT_ARTIFACTS` whose name is its digest, and no request can name another path. vLLM loads from
hard links of that folder (pinned.py), so the files stay as long as an engine knows them.
"""

import asyncio
import hmac
import os
import signal
import time
from argparse import Namespace
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import State
from starlette.types import ASGIApp, Receive, Scope, Send
from vllm.lora.request import LoRARequest
from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry

from server.children import end_with
from server.engine.fetching import NodeUnavailable
from server.engine.in_use import MODEL_HEADER, Locks, Uses
from server.engine.loaded import Loaded
from server.engine.pinned import AdapterRejected, pin, sweep, unpin

# How long a removal waits for running requests: an abort takes the engine a step or two.
_DRAIN_SECONDS = 10.0
_POLL_SECONDS = 0.02
_OPEN_PATHS = ("/health", "/metrics")
_CLOSED_PATHS = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/adapters")
_READING = ("GET", "HEAD")
_uses, _loaded = Uses(), Loaded()


def register() -> None:
    """Entry point `vllm.general_plugins`: called in every vLLM process."""
    from vllm.platforms import current_platform

    LoRAResolverRegistry.register_resolver("weft", DigestResolver())
    if current_platform.is_cpu():
        from server.engine import cpu_kernels

        cpu_kernels.install()


class DigestResolver(LoRAResolver):  # type: ignore[misc]  # vllm is untyped here
    """Loads adapters by digest when a request names one that the engine does not know."""

    async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None:
        """Return the adapter named `lora_name`, or None when it may not be loaded."""
        del base_model_name  # one engine serves one base; the gateway checked
        try:
            folder = await asyncio.to_thread(pin, lora_name)
        except (AdapterRejected, NodeUnavailable):
            return None
        # vLLM replaces the id by one of its own counter.
        return LoRARequest(lora_name=lora_name, lora_int_id=1, lora_path=str(folder))


class AdapterRoutes:
    """Entry point `vllm.endpoint_plugins`: the routes that the gateway calls."""

    name = "weft"
    required_tasks = None

    def attach_router(self, app: FastAPI) -> None:
        """Add weft's routes and close vLLM's own, which load any path of the machine."""
        router = APIRouter()
        router.get("/weft/engine")(_announce)
        router.get("/weft/adapters")(_list)
        router.post("/weft/adapters/{digest}")(_load)
        router.delete("/weft/adapters/{digest}")(_remove)
        app.include_router(router)
        # A middleware, since routes in their place would not do: SageMaker's routes, which load by
        # path too, are attached after these.
        app.add_middleware(Guard, key=os.environ.get("VLLM_API_KEY"))

    async def init_state(self, engine_client: Any, state: State, args: Namespace) -> None:
        """Prepare for loads and removals, and end with the gateway that started this engine."""
        del engine_client, args
        state.openai_serving_models.lora_resolver_lock = Locks()  # vLLM's own are never dropped
        sweep()
        if "WEFT_LIFELINE" in os.environ:
            lifeline = Connection(int(os.environ["WEFT_LIFELINE"]), writable=False)
            end_with(lifeline, lambda: os.kill(os.getpid(), signal.SIGTERM))


class Guard:
    """Middleware: every route requires the engine's key; routes that load by path are closed."""

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        self._app, self._expected = app, f"Bearer {key}".encode() if key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401 or 403."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        key = headers.get(b"authorization", b"")
        open_path = scope["path"] in _OPEN_PATHS or self._expected is None
        if not open_path and not hmac.compare_digest(key, self._expected or b""):
            await _refusal(401, "the engine's key is wrong or missing")(scope, receive, send)
        elif scope["path"].rstrip("/").startswith(_CLOSED_PATHS):
            await _refusal(403, "closed: weft loads adapters by digest only")(scope, receive, send)
        elif scope["method"] in _READING:
            await self._app(scope, receive, send)
        else:
            model = headers.get(MODEL_HEADER.encode(), b"").decode(errors="replace")
            with _uses.of(model), _loaded.changing():
                await self._app(scope, receive, send)


def _refusal(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status_code=status)


async def _announce(request: Request) -> dict[str, Any]:
    """Say how this engine was started, so that a gateway knows which base it serves."""
    models = request.app.state.openai_serving_models
    lora = models.engine_client.vllm_config.lora_config
    return {
        "models": [path.name for path in models.base_model_paths],
        "max_lora_rank": 0 if lora is None else lora.max_lora_rank,
        "max_loras": 0 if lora is None else lora.max_loras,
        "dtype": str(models.model_config.dtype).removeprefix("torch."),
    }


async def _list(request: Request) -> dict[str, Any]:
    models = request.app.state.openai_serving_models
    # Before and after: a busy engine answers late, and what ran meanwhile counts too.
    before = _running(models)
    numbers = await _loaded.numbers(models.engine_client)
    known = dict(models.lora_requests)
    return {
        "known": sorted(known),
        "resident": sorted(name for name, lora in known.items() if lora.lora_int_id in numbers),
        "running": before | _running(models),
    }


async def _load(digest: str, request: Request) -> dict[str, Any]:
    models = request.app.state.openai_serving_models
    # vLLM's own lock per name: its resolver may be loading the same adapter for a request.
    async with models.lora_resolver_lock[digest]:
        lora = models.lora_requests.get(digest)
        if lora is not None and lora.lora_int_id in await models.engine_client.list_loras():
            return {"loaded": False}
        try:
            folder = await asyncio.to_thread(pin, digest)
            if lora is None:
                number = models.lora_id_counter.inc(1)
                lora = LoRARequest(lora_name=digest, lora_int_id=number, lora_path=str(folder))
            await models.engine_client.add_lora(lora)
        except NodeUnavailable as error:
            raise HTTPException(503, str(error)) from error
        except Exception as error:  # the client reads the engine's message
            # A core that dies while it loads raises one of several errors.
            if models.engine_client.errored:
                raise HTTPException(503, "the engine's core is dead") from error
            raise HTTPException(422, f"{type(error).__name__}: {error}") from error
        models.lora_requests[digest] = lora
    return {"loaded": True}


async def _remove(digest: str, request: Request) -> dict[str, Any]:
    """Remove an adapter that no request uses, and confirm that it is gone."""
    models = request.app.state.openai_serving_models
    async with _unused(models, digest):
        lora = models.lora_requests.pop(digest, None)
        if lora is not None:
            try:
                await _evict(models.engine_client, lora.lora_int_id)
            except BaseException:
                models.lora_requests[digest] = lora  # still known: its files must stay
                raise
        await asyncio.to_thread(unpin, digest)
    return {"removed": lora is not None}


@asynccontextmanager
async def _unused(models: Any, digest: str) -> AsyncIterator[None]:
    """Hold the lock of an adapter that no request uses: the next one waits, and loads it anew.

    Raises:
        HTTPException: requests use it, and have not ended in time.
    """
    deadline = time.monotonic() + _DRAIN_SECONDS
    while True:
        async with models.lora_resolver_lock[digest]:
            if not (digest in _uses or digest in _running(models)):
                yield
                return
        if time.monotonic() > deadline:
            raise HTTPException(409, "requests still use it")
        await asyncio.sleep(_POLL_SECONDS)


def _running(models: Any) -> Counter[str]:
    # The only use of vLLM's private state: no public call tells which adapter a running request
    # uses, also one whose client has left, and after the removal of one in use the next step loads
    # it again without a name.
    states = models.engine_client.output_processor.request_states.values()
    return Counter(state.lora_name for state in states if state.lora_name is not None)


async def _evict(engine_client: Any, number: int) -> None:
    """Remove until the engine's list lacks it twice: a step in flight can add it again."""
    absent = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while absent < 2:
                if number in await engine_client.list_loras():
                    absent = 0
                    await engine_client.remove_lora(number)
                else:
                    absent += 1
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise HTTPException(409, "the engine did not remove it in time") from None
