"""Who is signed in, and how often a key may be tried: in memory, gone with the process.

A browser holds a random token in a signed cookie; its key is here alone, and in no repr.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from server.console.api.identity import Identity

_IDLE_SECONDS = 12 * 3600.0
_MOST_SESSIONS = 1000
_TRIES, _TRY_SECONDS = 5, 60.0
_MOST_ADDRESSES = 10_000


@dataclass(slots=True)
class Session:
    """A signed-in browser: its key, None on a server without keys, and how it likes its pages."""

    key: str | None = field(repr=False)
    who: Identity
    dark: bool | None = None  # None: as the system
    used_at: float = 0.0


class Sessions:
    """The sessions by token; the one unused for longest goes first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def start(self, key: str | None, who: Identity) -> str:
        """Return the token of a new session."""
        token = secrets.token_urlsafe(32)
        self._sessions[token] = Session(key, who, used_at=self._clock())
        while len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return token

    def find(self, token: str | None) -> Session | None:
        """Return the session of a token; None if there is none, or it was idle for 12 hours."""
        session = self._sessions.get(token or "")
        if session is None or token is None:
            return None
        if self._clock() > session.used_at + _IDLE_SECONDS:
            self.end(token)
            return None
        session.used_at = self._clock()
        self._sessions.move_to_end(token)
        return session

    def end(self, token: str | None) -> None:
        """Forget a session and its key."""
        self._sessions.pop(token or "", None)


class Throttle:
    """At most five keys a minute may be tried from one address."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tries: OrderedDict[str, list[float]] = OrderedDict()

    def try_from(self, address: str) -> float:
        """Count a try, and return 0; or return the seconds after which one may be made."""
        now = self._clock()
        tries = [at for at in self._tries.get(address, ()) if at > now - _TRY_SECONDS]
        self._tries[address] = tries
        self._tries.move_to_end(address)
        if len(tries) >= _TRIES:
            return tries[0] + _TRY_SECONDS - now
        tries.append(now)
        while len(self._tries) > _MOST_ADDRESSES:
            self._tries.popitem(last=False)
        return 0.0

    def passed(self, address: str) -> None:
        """Forget the tries of an address whose key was right."""
        self._tries.pop(address, None)
