"""`GET /registry/requests`: the newest requests for inference, and how long each part of one took.

Each gateway tells its own, since its start. Not covered: totals (/metrics) and usage (/usage).
"""

from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from server.auth import Reader
from server.gateway import Gateway
from server.routing import admin_routes
from server.telemetry.recent_requests import MOST, EndedRequest, Outcome

_Limit = Annotated[int, Query(ge=1, le=MOST, description="The maximum number of requests.")]
_Outcome = Annotated[Outcome | None, Query(description="Only requests that ended so.")]


class RequestItem(BaseModel):
    """A request that has ended. `stages` are seconds; `status` 0: its client left."""

    id: str = Field(examples=["5b0c…"], description="The answer's X-Request-ID.")
    at: datetime = Field(examples=["2026-11-29T08:10:00.120Z"], description="When it ended.")
    key: str | None = Field(examples=["team/ci"])
    namespace: str | None = Field(examples=["team"])
    path: str = Field(examples=["/v1/chat/completions"])
    model: str | None = Field(examples=["a0" * 32], description="A digest, or the base's name.")
    kind: str = Field(examples=["lego"], description="base, stored, a merge method, unresolved.")
    status: int = Field(examples=[200])
    outcome: Outcome = Field(examples=["done"])
    error: str | None = Field(examples=[None], description="The code of the error, if any.")
    seconds: float = Field(examples=[1.9])
    first_byte_seconds: float | None = Field(examples=[0.4])
    stages: dict[str, float] = Field(
        examples=[{"resolve": 0.002, "merge": 0.9, "load": 0.02, "engine": 0.3}]
    )
    prompt_tokens: int = Field(examples=[12])
    completion_tokens: int = Field(examples=[40])


class RequestList(BaseModel):
    """Requests, newest first."""

    items: list[RequestItem]


def requests_router(gateway: Gateway) -> APIRouter:
    """Return the route."""
    router = admin_routes("", "requests")
    recent = gateway.recent_requests

    @router.get("/requests")
    async def list_requests(
        caller: Reader, limit: _Limit = 100, outcome: _Outcome = None
    ) -> RequestList:
        """List the newest requests of this gateway: an admin's keys', or the caller's own."""
        ended = (one for one in recent.newest(caller) if outcome in (None, one.outcome))
        return RequestList(items=[_item(one) for one in islice(ended, limit)])

    return router


def _item(ended: EndedRequest) -> RequestItem:
    record = ended.record
    return RequestItem(
        id=record.id, at=datetime.fromtimestamp(ended.at, UTC), key=record.caller,
        namespace=record.namespace or None, path=ended.path, model=record.model, kind=record.kind,
        status=ended.status, outcome=ended.outcome, error=record.error, seconds=ended.seconds,
        first_byte_seconds=ended.first_byte_seconds, stages=dict(record.stages),
        prompt_tokens=record.prompt_tokens, completion_tokens=record.completion_tokens,
    )  # fmt: skip
