"""Authentication by API key, and the role that each route needs.

While no key exists, in the settings or in the registry, every caller is an admin. Once one exists,
every route outside `OPEN_PATHS` needs a key; the settings' keys are admins without a namespace. A
key is looked up in the registry at most once a second, so a revoked key stops working within two.
Not covered: what a caller may see (`registry.callers`, `registry.access.visibility`).
"""

import asyncio
import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from registry.access.keys import Keys
from registry.callers import Caller, Role
from registry.errors import RegistryError
from server.errors import KeyInvalid
from server.pools import Pool, PoolFull
from server.problems import error_answer
from server.telemetry import record

# The page at /docs holds nothing of the registry: it asks for a key and fetches /openapi.json.
OPEN_PATHS = frozenset({"/health", "/ready", "/ping", "/docs"})
ANYBODY = Caller("anybody")
_REMEMBERED_SECONDS = 1.0
_REMEMBERED = 10_000
_MAX_KEY_LENGTH = 200
_USE_SECONDS = 60.0
_log = logging.getLogger("weft.server")


@dataclass(frozen=True, slots=True)
class _Known:
    """The cached result of looking up a key, and when it expires."""

    caller: Caller | None
    until: float


class Keyring:
    """Maps keys to callers. Use it on one event loop."""

    def __init__(
        self,
        bootstrap: Sequence[str],
        keys: Keys,
        pool: Pool,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bootstrap = [key.encode() for key in bootstrap]
        self._keys = keys
        self._pool = pool
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._open_until = 0.0
        self._closed = bool(bootstrap)  # permanently: keys are revoked, never deleted
        self._used: dict[str, float] = {}
        self._noting: set[asyncio.Task[None]] = set()

    async def caller(self, key: str) -> Caller:
        """Return the caller of a key; "" stands for no key.

        Raises:
            KeyInvalid: the key is unknown, and at least one key exists.
            registry.errors.DatabaseUnavailable, PoolFull: the key cannot be looked up.
        """
        for number, known in enumerate(self._bootstrap, 1):
            # In constant time, so that the duration reveals nothing about the key.
            if hmac.compare_digest(key.encode("latin-1"), known):  # the bytes as received
                return Caller(f"settings-{number}")
        if await self._open():
            return ANYBODY
        caller = await self._registered(key) if 0 < len(key) <= _MAX_KEY_LENGTH else None
        if caller is None:
            raise KeyInvalid
        self._note_use(caller.name)
        return caller

    async def _open(self) -> bool:
        """Return whether no key exists."""
        if not self._closed and self._clock() >= self._open_until:
            self._closed = await self._pool.run(self._keys.any)
            self._open_until = self._clock() + _REMEMBERED_SECONDS
        return not self._closed

    async def _registered(self, key: str) -> Caller | None:
        known = self._known.get(key)
        if known is None or self._clock() >= known.until:
            asked = (
                self._clock()
            )  # before the look-up: a revocation during it must not be cached longer
            caller = await self._pool.run(self._keys.caller, key)
            known = self._known[key] = _Known(caller, asked + _REMEMBERED_SECONDS)
            self._known.move_to_end(key)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return known.caller

    def _note_use(self, name: str) -> None:
        """Record the use of a key without delaying the request."""
        if self._clock() < self._used.get(name, 0.0):
            return
        self._used[name] = self._clock() + _USE_SECONDS
        task = asyncio.create_task(asyncio.to_thread(self._write_use, name))
        self._noting.add(task)
        task.add_done_callback(self._noting.discard)

    def _write_use(self, name: str) -> None:
        try:
            self._keys.used([name])
        except RegistryError as error:  # a read-only database can still serve
            _log.warning("The use of the key %s could not be recorded: %s", name, error)


class RequireKey:
    """Middleware that authenticates every request outside `OPEN_PATHS`."""

    def __init__(self, app: ASGIApp, keyring: Keyring) -> None:
        self._app, self._keyring = app, keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put the caller into the state of the request, or answer 401."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
            try:
                bearer = key.strip() if scheme.lower() == "bearer" else ""
                caller = await self._keyring.caller(bearer)
            except (KeyInvalid, PoolFull, RegistryError) as error:
                await error_answer(scope["path"], error)(scope, receive, send)
                return
            set_caller(scope, caller)
        await self._app(scope, receive, send)


def set_caller(scope: Scope, caller: Caller) -> None:
    """Put the caller into the state of a request, and its name into the request's log lines."""
    record.note(caller=caller.name, namespace=caller.namespace)
    scope["state"] = {**scope.get("state", {}), "caller": caller}


def request_caller(scope: Scope) -> Caller:
    """Return the caller that the middleware put into the state of the request."""
    caller = scope["state"]["caller"]
    assert isinstance(caller, Caller)
    return caller


@dataclass(frozen=True, slots=True)
class Needs:
    """A dependency that returns the caller of a request and requires a role.

    With `name`, the caller must also be allowed to change the path's `name`; with `everything`, the
    key must not be limited to a namespace.
    """

    role: Role
    name: bool = False
    everything: bool = False

    async def __call__(self, request: Request) -> Caller:
        """Return the caller.

        Raises:
            AccessDenied: the role or the namespace of the caller does not allow the request.
        """
        caller = request_caller(request.scope)
        caller.need_role(self.role)
        if self.everything:
            caller.need_everything()
        if self.name:
            caller.need_name(request.path_params["name"])
        return caller


Reader = Annotated[Caller, Depends(Needs("read"))]
Chatter = Annotated[Caller, Depends(Needs("chat"))]
Publisher = Annotated[Caller, Depends(Needs("publish"))]
Owner = Annotated[Caller, Depends(Needs("publish", name=True))]
Admin = Annotated[Caller, Depends(Needs("admin"))]
Operator = Annotated[Caller, Depends(Needs("admin", everything=True))]


def role_of(route: BaseRoute) -> Role | None:
    """Return the role that a route requires, or None for an open route."""
    dependencies = getattr(getattr(route, "dependant", None), "dependencies", ())
    needs = (d.call for d in dependencies if isinstance(d.call, Needs))
    return next((call.role for call in needs), None)
