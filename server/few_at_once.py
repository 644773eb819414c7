"""Middleware that runs a few requests of one caller at a time, and lets its others wait in line.

All requests share one event loop, and each ready one delays the next. So what a caller sends in
parallel waits here rather than in front of everybody. Not covered: chat requests, imports and
exports, which have limits of their own and may take long.
"""

import asyncio
from collections import Counter
from contextlib import ExitStack

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.auth import OPEN_PATHS, request_caller
from server.bodies import is_upload
from server.inference import INFERENCE_PATHS
from server.pools import PoolFull
from server.problems import error_answer

AT_ONCE = 2
_WAITING = 256  # of one caller; further requests are refused


class FewAtOnce:
    """Gives each caller `AT_ONCE` turns; a request has one until its answer begins."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._lines: dict[str, asyncio.Semaphore] = {}
        self._requests: Counter[str] = Counter()  # by owner: those that run or wait

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on in its turn, or answer 503."""
        path = scope.get("path", "")
        if scope["type"] != "http" or path in OPEN_PATHS | INFERENCE_PATHS or _is_long(path):
            await self._app(scope, receive, send)
            return
        owner = request_caller(scope).owner
        if self._requests[owner] >= AT_ONCE + _WAITING:
            await error_answer(path, PoolFull("registry"))(scope, receive, send)
            return
        line = self._lines.setdefault(owner, asyncio.Semaphore(AT_ONCE))
        self._requests[owner] += 1
        try:
            await line.acquire()
            await self._in_turn(line, scope, receive, send)
        finally:
            self._requests[owner] -= 1
            if not self._requests[owner]:
                del self._requests[owner], self._lines[owner]

    async def _in_turn(
        self, line: asyncio.Semaphore, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Pass the request on; its turn ends with the first byte, as events may follow for long."""
        turn = ExitStack()
        turn.callback(line.release)

        async def send_on(message: Message) -> None:
            turn.close()
            await send(message)

        with turn:
            await self._app(scope, receive, send_on)


def _is_long(path: str) -> bool:
    return is_upload(path) or path.startswith("/registry/imports") or path.endswith("/files")
