"""What this process last heard of the engines: written by Serve's thread, read by a gateway."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class EngineNews:
    """What Serve's controller last told of one engine that is up.

    Attributes:
        metadata: as the engine's `record_replica_metadata` returned it.
        statistics: as its `record_routing_stats` last did; empty at first.
    """

    metadata: Mapping[str, Any]
    statistics: Mapping[str, Any]


class Board:
    """The news of one process. Each is replaced as a whole, so that readers need no lock."""

    def __init__(self) -> None:
        self.latest: tuple[EngineNews, ...] = ()


BOARD = Board()
