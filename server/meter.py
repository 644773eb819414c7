"""Counts what each key uses, and refuses what is beyond its limits.

Counts are kept in memory and added to the database every two seconds, in one transaction, which
also reads what other gateways counted: a request writes nothing. A gateway that takes a quarter of
what it knows to be left of a limit exchanges counts at once, so each gateway beyond the first lets
a limit be passed by about a quarter at most. Counters in the database rather than a service
of their own (Redis, as PyPI's `limits` would need): every deployment has the database, its rows are
the report of usage as well, and tokens and seconds are known only after the fact.
"""

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from registry.access.usage import Counts, Slot, Usage
from registry.callers import LOCAL, NO_LIMITS, Caller, KeyLimits
from registry.errors import RegistryError
from server.rates import Rate, RateLimited, amount, effective_limits, headers_of_rates, rates
from server.telemetry import record

_FLUSH_SECONDS, _LEAST_FLUSH_SECONDS = 2.0, 0.1
_PART = 4  # of what is left of a limit: a gateway that takes one of these parts exchanges counts
_MINUTE = 60
_NOTHING = Counts()
_log = logging.getLogger("weft.server")


class Measured:
    """One request while it is answered: what it has used so far, as far as is known."""

    def __init__(self, reserved_tokens: int, headers: Mapping[str, str]) -> None:
        self.reserved_tokens = reserved_tokens
        self.headers = headers
        self.prompt_tokens = self.completion_tokens = 0


class Meter:
    """The usage of keys through this gateway. Use it on one event loop."""

    def __init__(
        self, usage: Usage, defaults: KeyLimits, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._usage, self._defaults, self._clock = usage, defaults, clock
        # As of the last flush, by all gateways; None before the first.
        self._shared: Mapping[tuple[str, int], Counts] | None = None
        self._pending: defaultdict[Slot, Counts] = defaultdict(Counts)  # since then, by this one
        self._sent: Mapping[Slot, Counts] = {}  # being written
        self._reserved: Counter[str] = Counter()
        self._flushing = asyncio.Lock()
        self._soon = asyncio.Event()
        self._failing = False

    @contextmanager
    def request(self, caller: Caller, *, tokens: int) -> Iterator[Measured]:
        """Count a request of the caller; on exit, count the tokens that `Measured` names.

        Args:
            caller: who asks.
            tokens: how many tokens the request may take, which are reserved meanwhile.

        Raises:
            RateLimited: its requests or its tokens are used up.
        """
        self._check(caller, ("requests", "tokens"))
        self._add(caller, Counts(requests=1))
        self._reserved[caller.name] += tokens
        measured = Measured(tokens, headers_of_rates(self._rates(caller)))
        try:
            yield measured
        finally:
            self._release(caller.name, tokens)
            record.note_tokens(measured.prompt_tokens, measured.completion_tokens)
            counts = Counts(
                prompt_tokens=measured.prompt_tokens, completion_tokens=measured.completion_tokens
            )
            self._add(caller, counts)

    def check_build(self, caller: Caller) -> None:
        """Check that the caller may begin a build now.

        Raises:
            RateLimited: its new compositions or its build seconds are used up.
        """
        self._check(caller, ("compositions", "build_seconds"))

    def begun(self, caller: Caller) -> None:
        """Count a build that the caller has begun."""
        self._add(caller, Counts(compositions=1))

    def not_begun(self, caller: Caller) -> None:
        """Take back a build that the caller had begun: another gateway has made the same."""
        self._add(caller, Counts(compositions=-1))

    def built(self, caller: Caller, seconds: float) -> None:
        """Count the seconds of a build that the caller had begun."""
        self._add(caller, Counts(build_seconds=seconds))

    async def run(self) -> None:
        """Exchange counts now, at least every two seconds, and once more at the end."""
        try:
            while True:
                await self.flush()
                await asyncio.sleep(_LEAST_FLUSH_SECONDS)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_FLUSH_SECONDS - _LEAST_FLUSH_SECONDS):
                        await self._soon.wait()
        finally:
            await self.flush()

    async def flush(self) -> None:
        """Write the counts, and read those of other gateways. A failure keeps them for later."""
        async with self._flushing:
            self._soon.clear()
            alone = not self._usage.shared and self._shared is not None
            if alone and not self._pending:
                return
            self._sent, self._pending = self._pending, defaultdict(Counts)
            try:
                self._shared = await asyncio.to_thread(self._exchange, self._sent)
                self._failing = False
            except RegistryError as error:
                for slot, counts in self._sent.items():
                    self._pending[slot] += counts
                if not self._failing:
                    _log.warning("The usage of keys cannot be written for now: %s", error)
                self._failing = True
            finally:
                self._sent = {}

    def _exchange(self, used: Mapping[Slot, Counts]) -> Mapping[tuple[str, int], Counts]:
        if used:
            self._usage.add(used)
        return self._usage.minutes(since=self._minute() - 1)

    def _check(self, caller: Caller, names: tuple[str, ...]) -> None:
        some = self._rates(caller)
        for rate in some:
            if rate.name in names and rate.exhausted:
                raise RateLimited(caller.name, rate, headers_of_rates(some))
        if some and self._usage.shared:
            self._share(caller, [rate for rate in some if rate.name in names])

    def _share(self, caller: Caller, some: Iterable[Rate]) -> None:
        """Exchange counts soon if the caller takes much of what is left since the last time."""
        taken = self._pending.get(self._slot(caller, self._minute()), _NOTHING)
        if any(_PART * (amount(rate.name, taken) + rate.least) >= rate.left for rate in some):
            self._soon.set()

    def _rates(self, caller: Caller) -> tuple[Rate, ...]:
        limits, minute = effective_limits(caller, self._defaults), self._minute()
        if limits == NO_LIMITS:
            return ()
        elapsed = self._clock() - _MINUTE * minute
        before, used = self._used(caller, minute - 1), self._used(caller, minute)
        return rates(limits, before, used, self._reserved[caller.name], elapsed)

    def _used(self, caller: Caller, minute: int) -> Counts:
        slot = self._slot(caller, minute)
        own = self._sent.get(slot, _NOTHING) + self._pending.get(slot, _NOTHING)
        return (self._shared or {}).get((caller.name, minute), _NOTHING) + own

    def _add(self, caller: Caller, counts: Counts) -> None:
        if caller is not LOCAL and counts != _NOTHING:
            self._pending[self._slot(caller, self._minute())] += counts

    def _release(self, name: str, tokens: int) -> None:
        self._reserved[name] -= tokens
        if not self._reserved[name]:
            del self._reserved[name]

    @staticmethod
    def _slot(caller: Caller, minute: int) -> Slot:
        return Slot(caller.name, caller.namespace or None, minute)

    def _minute(self) -> int:
        return int(self._clock() // _MINUTE)
