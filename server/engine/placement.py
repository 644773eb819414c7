"""Which of several engines answers for an adapter: the same choice on every gateway.

Each digest ranks the engines in an order of its own (rendezvous hashing: Thaler and Ravishankar,
IEEE/ACM Transactions on Networking 6(1), 1998). The first in the order is the adapter's home. When
an engine leaves, only the adapters that it was home to move; when it returns, they return. Not
covered: which engines there are and what each holds.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# How many more requests than the least busy engine an engine may have and still get another. With
# more, gateways that do not see each other's requests pile them up (tests/bench/placement.py).
SLACK = 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine that takes requests, as a gateway sees it at this moment."""

    url: str  # its identity, on which gateways agree
    running: int  # requests
    resident: bool  # whether it has the adapter in memory
    room: bool = True  # whether the adapter gets a slot without waiting for others to end


def order(key: str, urls: Iterable[str]) -> list[str]:
    """Return `urls` in the order that `key` gives them; a missing one changes no other's place."""
    return sorted(urls, key=lambda url: hashlib.sha256(f"{key} {url}".encode()).digest())


def choose(key: str, candidates: Sequence[Candidate], *, slack: int = SLACK) -> Candidate:
    """Return the engine that answers for the adapter `key`.

    Engines with room come before those without. Of these, an engine is free while it has at most
    `slack` requests more than the least busy one. Of the free engines that hold the adapter, the
    least busy one answers, of several the first in the adapter's order; if none of them holds it,
    the first free one does. So a hot adapter spreads once its home is not free, and shrinks back to
    it when they are idle.

    Args:
        key: the adapter's digest; for the base, whatever spreads its requests.
        candidates: at least one.
        slack: a number of requests.
    """
    roomy = [one for one in candidates if one.room] or candidates
    least = min(one.running for one in roomy)
    free = {one.url: one for one in roomy if one.running <= least + slack}
    ordered = [free[url] for url in order(key, free)]
    resident = [one for one in ordered if one.resident]
    return min(resident, key=lambda one: one.running) if resident else ordered[0]
