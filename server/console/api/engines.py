"""Engines, what is loaded in them, builds in flight, and the requests of the last minutes."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from server.console.api.client import Api

Outcome = Literal["done", "refused", "failed", "left"]
OUTCOMES: tuple[Outcome, ...] = ("done", "refused", "failed", "left")


class Resident(BaseModel):
    """An adapter in an engine's memory."""

    digest: str
    models: list[str]
    running: int
    leases: int


class Engine(BaseModel):
    """An engine; `hidden` counts adapters in its memory that the key may not see."""

    base: str
    name: str | None
    available: bool
    restarts: int
    slots: int
    running: int
    resident: list[Resident]
    hidden: int


class Build(BaseModel):
    """A merge that runs, or that waits for a worker."""

    recipe: str
    method: str
    state: Literal["waiting", "running"]
    seconds: float
    waiters: int
    caller: str


class Pool(BaseModel):
    """A pool of threads: calls that run or wait, and the number at which it refuses more."""

    pool: str
    calls: int
    limit: int


class Engines(BaseModel):
    """The state of a gateway and its engines."""

    engines: list[Engine]
    builds: list[Build]
    builds_running: int
    builds_waiting: int
    merge_workers: int
    leases: int
    loads: int
    merge_hits: int
    merge_misses: int
    artifact_bytes: int
    lost_requests: int
    pools: list[Pool]


class Request(BaseModel):
    """A request that has ended; times are seconds."""

    id: str
    at: datetime
    key: str | None
    path: str
    model: str | None
    kind: str
    status: int
    outcome: Outcome
    error: str | None
    seconds: float
    first_byte_seconds: float | None
    stages: dict[str, float]
    prompt_tokens: int
    completion_tokens: int


class Requests(BaseModel):
    """The newest requests that the key may see."""

    items: list[Request]


async def engines(api: Api) -> Engines:
    """Return the state of the gateway and its engines."""
    return await api.get(Engines, "engines")


async def requests(api: Api, outcome: Outcome | None = None, limit: int = 100) -> Requests:
    """Return the newest requests, with the outcome if one is given."""
    return await api.get(Requests, "requests", query={"limit": limit, "outcome": outcome})
