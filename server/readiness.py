"""Whether a gateway can answer requests: its engine, its database, its disk and its store.

Anybody may ask, so the answer names no host, path or error, and is remembered for a second.
"""

import asyncio
import concurrent.futures
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from server.gateway import Gateway
from server.stores import objects_of

_log = logging.getLogger("weft.server")
# SageMaker waits two seconds for /ping.
_ANSWER_SECONDS = 1.5
_REMEMBERED_SECONDS = 1.0
_PROBE_BYTES = 4096


class Readiness:
    """Answers what keeps a gateway from taking requests."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._database = _Check(lambda: gateway.registry.bases.get(gateway.bases.default.name))
        self._disk = _Check(self._write)
        self._objects = objects_of(gateway.settings)
        self._store = _Check(self._ask_store)
        self._asking = asyncio.Lock()
        self._latest: Mapping[str, str] = {}
        self._expires = 0.0

    async def problems(self) -> Mapping[str, str]:
        """Return what is wrong by part of the gateway; empty when it can take requests."""
        async with self._asking:
            if time.monotonic() >= self._expires:
                self._latest = await self._ask()
                self._expires = time.monotonic() + _REMEMBERED_SECONDS
        parts = dict(self._latest)
        bases = list(self._gateway.bases)
        for base in bases:
            if not base.fleet.available():  # free to ask, so it is never remembered
                part = "engine" if len(bases) == 1 else f"engine of {base.served_name}"
                parts[part] = "is starting or restarting, or does not answer"
        if self._gateway.stopping.begun:
            parts["gateway"] = "is stopping"
        return parts

    async def _ask(self) -> Mapping[str, str]:
        checks = {"database": self._database, "disk": self._disk}
        # Requests for what is on this machine need no store: it is asked once one has missed it.
        if self._objects is not None and self._objects.failing:
            checks["store"] = self._store
        results = await asyncio.gather(*(c.passes(_ANSWER_SECONDS) for c in checks.values()))
        wrong = {
            "database": "does not answer", "disk": "cannot be written",
            "store": "does not answer, and a request needed it",
        }  # fmt: skip
        passed = dict(zip(checks, results, strict=True))
        return {part: wrong[part] for part in checks if not passed[part]}

    def _ask_store(self) -> None:
        """Look for an object. Raises StoreUnavailable: the store does not answer."""
        assert self._objects is not None
        with suppress(FileNotFoundError):
            self._objects.get("checks/ready")

    def _write(self) -> None:
        """Write files that leave nothing behind. Raises OSError: a disk is full or read-only."""
        for folder in (self._gateway.settings.home, self._gateway.settings.artifacts):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
                file.write(bytes(_PROBE_BYTES))


class _Check:
    """A function that may hang, in a thread of its own; never more than one at a time.

    The thread is a daemon, so that a database which never answers does not keep the process alive.
    """

    def __init__(self, check: Callable[[], object]) -> None:
        self._check = check
        self._running: concurrent.futures.Future[bool] | None = None

    async def passes(self, seconds: float) -> bool:
        """Return whether the function returns in time and raises nothing."""
        running = self._running
        if running is None or running.done():
            running = self._running = concurrent.futures.Future()
            threading.Thread(target=self._run, args=(running,), daemon=True).start()
        await asyncio.wait({asyncio.wrap_future(running)}, timeout=seconds)
        return running.done() and running.result()

    def _run(self, running: concurrent.futures.Future[bool]) -> None:
        try:
            self._check()
        except Exception as error:
            _log.warning("not ready: %s", error)
            running.set_result(False)
        else:
            running.set_result(True)
