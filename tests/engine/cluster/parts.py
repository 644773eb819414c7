"""What a run needs of a cluster, wherever its parts run: where it answers, and what can be lost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.settings import Settings


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a cluster.

    Attributes:
        name: a noun phrase, for a table.
        lose: ends it at once, as a crash does.
        restore: returns once it is back; starts it, unless something else does.
    """

    name: str
    lose: Callable[[], None]
    restore: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster.

    Attributes:
        parts: which are lost one after the other.
        urls: where clients ask; each of them knows all.
        key: that clients send, if any.
        settings: of a client of the same database and store.
    """

    parts: Sequence[Part]
    urls: Sequence[str]
    key: str | None
    settings: Settings
