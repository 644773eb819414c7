"""`GET /registry/usage`: what each key used, by day."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from server.admin.fields import PRINTABLE, Cursor, Limit
from server.admin.schemas import Item, PageOf
from server.auth import Reader
from server.gateway import Gateway
from server.routing import admin_routes

_Asked = Annotated[str | None, Query(pattern=PRINTABLE, max_length=200, examples=[None])]
_Day = Annotated[
    str | None,
    Query(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", max_length=10, examples=["2026-11-28"]),
]


class UsageItem(Item):
    """What a key used on a day (UTC). `compositions` are builds that were begun."""

    day: str = Field(examples=["2026-11-28"])
    key: str = Field(examples=["ci"])
    namespace: str | None = Field(examples=["team"])
    requests: int = Field(examples=[120])
    prompt_tokens: int = Field(examples=[48_000])
    completion_tokens: int = Field(examples=[9_600])
    compositions: int = Field(examples=[2])
    build_seconds: float = Field(examples=[5.5])


def usage_router(gateway: Gateway) -> APIRouter:
    """Return the route of usage."""
    router = admin_routes("", "usage")
    usage = gateway.registry.access.usage

    @router.get("/usage")
    def list_usage(
        caller: Reader, key: _Asked = None, namespace: _Asked = None, since: _Day = None,
        until: _Day = None, cursor: Cursor = None, limit: Limit = 20,
    ) -> PageOf[UsageItem]:  # fmt: skip
        """List usage by day (UTC) and key, newest first: an admin's keys, or the caller's own.

        The last seconds may be missing.
        """
        page = usage.page(
            key=key, namespace=namespace, since=since, until=until, cursor=cursor, limit=limit,
            caller=caller,
        )  # fmt: skip
        return PageOf[UsageItem].of(UsageItem, page)

    return router
