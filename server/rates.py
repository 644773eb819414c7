"""What a key may use in a minute: how much is left, and when there will be more.

A limit holds over a window that slides: what was used in this minute, and the part of the last
minute's that the last 60 seconds still cover. Not covered: counting (`server.meter`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from registry.access.usage import Counts
from registry.callers import Caller, KeyLimits

_SECONDS = 60.0
_WHAT = {
    "requests": "requests", "tokens": "tokens", "compositions": "new compositions",
    "build_seconds": "seconds of builds",
}  # fmt: skip


class RateLimited(Exception):
    """The key has used up what it may use in a minute."""

    def __init__(self, key: str, rate: "Rate", headers: Mapping[str, str]) -> None:
        self.headers = headers
        what = f"The key {key} may use {rate.limit:g} {_WHAT[rate.name]} per minute"
        self.retry_after_seconds: int | None = None
        if rate.least > rate.limit:
            super().__init__(f"{what}, so never any. An admin can raise its limit.")
            return
        self.retry_after_seconds = max(1, math.ceil(rate.wait(rate.least)))
        super().__init__(
            f"{what}, and {rate.left:g} are left. Try again in {self.retry_after_seconds} s."
        )


@dataclass(frozen=True, slots=True)
class Rate:
    """One limit, and what was used of it.

    `before` was used in the minute before this one, `used` in this one, of which `elapsed` seconds
    have passed. `least` is what the next request needs at least.
    """

    name: str
    limit: float
    before: float
    used: float
    elapsed: float
    least: float = 1.0

    @property
    def left(self) -> float:
        """What is left now, at least 0; whole but for seconds."""
        left = max(0.0, self.limit - self._used_after(0.0))
        return round(left, 1) if self.name == "build_seconds" else math.floor(left)

    @property
    def exhausted(self) -> bool:
        """Whether the next request has to wait."""
        return self._used_after(0.0) + self.least > self.limit

    def wait(self, need: float) -> float:
        """Return the seconds until `need` is left, or all of the limit if `need` is more."""
        free = self.limit - min(need, self.limit)  # what may be in use by then
        if self._used_after(0.0) <= free:
            return 0.0
        rest = _SECONDS - self.elapsed
        if self.used <= free and self.before > 0:
            share = (free - self.used) / self.before
            return max(0.0, rest - share * _SECONDS)
        return rest + max(0.0, _SECONDS * (1 - free / self.used)) if self.used else rest

    def _used_after(self, seconds: float) -> float:
        covered = max(0.0, 1 - (self.elapsed + seconds) / _SECONDS)
        return self.before * covered + self.used


def effective_limits(caller: Caller, defaults: KeyLimits) -> KeyLimits:
    """Return a caller's limits: its key's, and the defaults where its key has none.

    The defaults do not hold for those who operate the server.
    """
    if caller.operates:
        return caller.limits
    names = [field.name for field in fields(KeyLimits)]
    own = {name: getattr(caller.limits, name) for name in names}
    return KeyLimits(
        **{n: getattr(defaults, n) if value is None else value for n, value in own.items()}
    )


def rates(
    limits: KeyLimits, before: Counts, used: Counts, reserved_tokens: int, elapsed: float
) -> tuple[Rate, ...]:
    """Return the rate of every limit that is set."""
    found = []
    for field in fields(KeyLimits):
        limit = getattr(limits, field.name)
        if limit is not None:
            reserved = reserved_tokens if field.name == "tokens" else 0
            least = 0.001 if field.name == "build_seconds" else 1.0
            now = amount(field.name, used) + reserved
            rate = Rate(field.name, limit, amount(field.name, before), now, elapsed, least)
            found.append(rate)
    return tuple(found)


def headers_of_rates(some: tuple[Rate, ...]) -> dict[str, str]:
    """Return OpenAI's headers: each limit, what is left of it, and when all of it will be."""
    headers: dict[str, str] = {}
    for rate in some:
        kind = rate.name.replace("_", "-")
        headers[f"x-ratelimit-limit-{kind}"] = f"{rate.limit:.12g}"
        headers[f"x-ratelimit-remaining-{kind}"] = f"{rate.left:.12g}"
        headers[f"x-ratelimit-reset-{kind}"] = f"{math.ceil(rate.wait(rate.limit))}s"
    return headers


def amount(name: str, counts: Counts) -> float:
    """Return what a limit of this name is of, from counts."""
    if name == "tokens":
        return counts.prompt_tokens + counts.completion_tokens
    return float(getattr(counts, name))
