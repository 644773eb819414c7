"""Adapters: lists and their items."""

from pydantic import BaseModel

from server.console.api.client import Api, PageOf


class Adapter(BaseModel):
    """An adapter, with the fields of its newest version in use."""

    name: str
    tags: list[str]
    base: str
    rank: int
    status: str


async def adapters(api: Api, cursor: str | None = None) -> PageOf[Adapter]:
    """Return a page of adapters, by name."""
    return await api.page(Adapter, "adapters", cursor=cursor)
