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
from server.problems import error_answer

# The page at /docs holds nothing of the registry: it asks for a key and fetches /openapi.json.
OPEN_PATHS = frozenset({"/health", "/ping", "/docs"})
ANYBODY = Caller("anybody")
_REMEMBERED_SECONDS = 1.0
_REMEMBERED = 10_000
_MAX_KEY_LENGTH = 200
_USE_SECONDS = 60.0
_log = logging.getLogger("weft.server")


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found out about a key, and until when it holds."""

    caller: Caller | None
    until: float


class Keyring:
    """Finds out whom a key stands for. One event loop."""

    def __init__(
        self,
        bootstrap: Sequence[str],
        keys: Keys,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bootstrap = [key.encode() for key in bootstrap]
        self._keys = keys
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._open_until = 0.0
        self._closed = bool(bootstrap)  # for good: keys are revoked, never forgotten
        self._used: dict[str, float] = {}
        self._noting: set[asyncio.Task[None]] = set()

    async def caller(self, key: str) -> Caller:
        """Return whom a key stands for; "" is none.

        Raises:
            KeyInvalid: nobody, and there are keys.
            registry.errors.DatabaseUnavailable: it cannot be found out now.
        """
        for number, known in enumerate(self._bootstrap, 1):
            # In constant time: how long it takes tells nothing about the key.
            if hmac.compare_digest(key.encode("latin-1"), known):  # the bytes as they came
                return Caller(f"settings-{number}")
        if await self._open():
            return ANYBODY
        found = await self._registered(key) if 0 < len(key) <= _MAX_KEY_LENGTH else None
        if found is None:
            raise KeyInvalid
        self._note_use(found.name)
        return found

    async def _open(self) -> bool:
        """Say whether there is no key at all."""
        if not self._closed and self._clock() >= self._open_until:
            self._closed = await asyncio.to_thread(self._keys.any)
            self._open_until = self._clock() + _REMEMBERED_SECONDS
        return not self._closed

    async def _registered(self, key: str) -> Caller | None:
        known = self._known.get(key)
        if known is None or self._clock() >= known.until:
            asked = self._clock()  # before: what is true then may not be true afterwards
            caller = await asyncio.to_thread(self._keys.caller, key)
            known = self._known[key] = _Known(caller, asked + _REMEMBERED_SECONDS)
            self._known.move_to_end(key)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return known.caller

    def _note_use(self, name: str) -> None:
        """Have the use of a key written down, without keeping the request waiting."""
        if self._clock() < self._used.get(name, 0.0):
            return
        self._used[name] = self._clock() + _USE_SECONDS
        task = asyncio.create_task(asyncio.to_thread(self._write_use, name))
        self._noting.add(task)
        task.add_done_callback(self._noting.discard)

    def _write_use(self, name: str) -> None:
        try:
            self._keys.used([name])
        except RegistryError as error:  # a read-only disk still serves
            _log.warning("the use of the key %s could not be written down: %s", name, error)


class RequireKey:
    """Middleware that finds out who calls and lets nobody else in."""

    def __init__(self, app: ASGIApp, keyring: Keyring) -> None:
        self._app, self._keyring = app, keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its caller in the state, or answer 401."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
            try:
                given = key.strip() if scheme.lower() == "bearer" else ""
                caller = await self._keyring.caller(given)
            except (KeyInvalid, RegistryError) as error:
                await error_answer(scope["path"], error)(scope, receive, send)
                return
            set_caller(scope, caller)
        await self._app(scope, receive, send)


def set_caller(scope: Scope, caller: Caller) -> None:
    """Write down who calls."""
    scope["state"] = {**scope.get("state", {}), "caller": caller}


def caller_of(scope: Scope) -> Caller:
    """Return who calls; the middleware has found it out."""
    caller = scope["state"]["caller"]
    assert isinstance(caller, Caller)
    return caller


@dataclass(frozen=True, slots=True)
class Needs:
    """A dependency: the caller of a request, who has the role.

    With `name`, the caller may also change what the path's `name` names; with `everything`, the
    caller's rights end at no namespace.
    """

    role: Role
    name: bool = False
    everything: bool = False

    async def __call__(self, request: Request) -> Caller:
        """Return the caller.

        Raises:
            AccessDenied: by role or by namespace.
        """
        caller = caller_of(request.scope)
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
    """Return the role that a route declares."""
    dependencies = getattr(getattr(route, "dependant", None), "dependencies", ())
    needs = (d.call for d in dependencies if isinstance(d.call, Needs))
    return next((call.role for call in needs), None)
