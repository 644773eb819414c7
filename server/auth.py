"""Authentication by API key, and the role that each route needs.

While no key exists, in the settings or in the registry, every caller is an admin. Once one exists,
every route outside `OPEN_PATHS` needs a key; the settings' keys are admins without a namespace.
The registry's keys are kept in memory and compared with the database once a second, so a revoked
key stops working within two. Keys that are not among them share one look, at most ten a second: a
new key works at once, and unknown keys cost next to nothing.
Not covered: what a caller may see (`registry.callers`, `registry.access.visibility`).
"""

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from registry.access.keys import Keys, LiveKeys, has_key_form
from registry.callers import Caller, Role
from registry.errors import RegistryError
from registry.storage.errors import DatabaseUnreachable
from server import recent
from server.errors import KeyInvalid
from server.pools import Pool, PoolFull, work_for
from server.problems import error_answer
from server.shared_tasks import shared_task
from server.sites import CrossSiteRefused, HostRefused, check_host, check_site
from server.telemetry import record

# The page at /docs holds nothing of the registry: it asks for a key and fetches /openapi.json.
OPEN_PATHS = frozenset({"/health", "/ready", "/ping", "/docs"})
ANYBODY = Caller("anybody")
_REMEMBERED_SECONDS = 1.0
_LOOK_SECONDS = 0.1
_USE_SECONDS = 60.0
_log = logging.getLogger("weft.server")


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
        self._live: LiveKeys | None = None
        self._bridged_until = 0.0
        self._read_at = self._looked_at = -_LOOK_SECONDS
        self._reading: asyncio.Task[LiveKeys] | None = None
        self._look: asyncio.Task[LiveKeys] | None = None
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
        live = await self._live_keys()
        if not live.any and not self._bootstrap:
            return ANYBODY
        caller = live.caller(key)
        if caller is None and has_key_form(key):
            caller = (await self._newer_keys()).caller(key)
        if caller is None:
            raise KeyInvalid
        self._note_use(caller.name)
        return caller

    async def _live_keys(self) -> LiveKeys:
        """Return the registry's keys as of at most a second ago; concurrent calls share a read.

        While the database cannot be reached, the keys of the last 30 seconds stand (see `Recent`),
        and a read is tried once a second.
        """
        until = max(self._read_at + _REMEMBERED_SECONDS, self._bridged_until)
        if self._live is not None and self._clock() < until:
            return self._live
        if self._reading is None:
            self._reading = shared_task(self._read(), name="read keys")
            self._reading.add_done_callback(self._end_reading)
        try:
            return await asyncio.shield(self._reading)
        except DatabaseUnreachable:
            if self._live is None or self._clock() > self._read_at + recent.BRIDGED_SECONDS:
                raise
            self._bridged_until = self._clock() + _REMEMBERED_SECONDS
            return self._live

    async def _newer_keys(self) -> LiveKeys:
        """Return the registry's keys as of now; concurrent calls share a read."""
        if self._look is None:
            self._look = shared_task(self._look_again(), name="look for new keys")
        return await asyncio.shield(self._look)

    async def _look_again(self) -> LiveKeys:
        await asyncio.sleep(self._looked_at + _LOOK_SECONDS - self._clock())
        self._look = None  # whoever comes after this moment needs a later read
        self._looked_at = self._clock()
        return await self._read()

    async def _read(self) -> LiveKeys:
        # Taken before the read: a revocation during it must not be remembered for longer.
        started = self._clock()
        live = await self._pool.run(self._keys.live, self._live)
        if self._live is None or started >= self._read_at:
            self._live, self._read_at = live, started
        return live

    def _end_reading(self, _: asyncio.Task[LiveKeys]) -> None:
        self._reading = None

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
    """Middleware that authenticates every request outside `OPEN_PATHS`, and checks its host."""

    def __init__(
        self, app: ASGIApp, keyring: Keyring, allowed_hosts: Sequence[str] = (),
        cors_origins: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._app, self._keyring = app, keyring
        self._allowed_hosts, self._cors_origins = allowed_hosts, cors_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put the caller into the state of the request, or answer 401 or 403."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            try:
                caller = await self._caller(Headers(scope=scope))
            except (
                CrossSiteRefused, HostRefused, KeyInvalid, PoolFull, RegistryError,
            ) as error:  # fmt: skip
                await error_answer(scope["path"], error)(scope, receive, send)
                return
            set_caller(scope, caller)
        await self._app(scope, receive, send)

    async def _caller(self, headers: Headers) -> Caller:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        caller = await self._keyring.caller(key.strip() if scheme.lower() == "bearer" else "")
        has_keys = caller is not ANYBODY
        check_host(headers, self._allowed_hosts, has_keys=has_keys)
        if not has_keys:
            check_site(headers, self._cors_origins)
        return caller


def set_caller(scope: Scope, caller: Caller) -> None:
    """Put the caller into the state of a request, and its name into the request's log lines.

    The request's calls take the caller's turns in the pools.
    """
    work_for(caller.owner)
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
