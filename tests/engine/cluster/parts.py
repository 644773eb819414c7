"""What a run needs of a cluster, wherever its parts run: where it answers, and what can be lost."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from server.settings import Settings
from tests import postgresql
from tests.seaweed import seaweed


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


@dataclass(frozen=True, slots=True)
class Backing:
    """A database and an object store: settings that name them, and both as parts."""

    settings: Mapping[str, Any]
    parts: Sequence[Part]


@contextmanager
def backing(folder: Path) -> Iterator[Backing]:
    """Start a database and a store, and end them. Processes that start meanwhile inherit the
    store's credentials.
    """
    with (
        postgresql.serve() as database,
        seaweed(folder / "store") as store,
        patch.dict(os.environ, store.environ),
    ):
        settings = {
            "database_url": database.create(), "store": store.url, "engine_probe_seconds": 10,
            "store_retry_seconds": 2,
        }  # fmt: skip
        parts = (
            Part("the object store", store.stop, store.start),
            Part("the database", database.stop, database.start),
        )
        yield Backing(settings, parts)
