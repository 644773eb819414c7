"""Search: adapters by text, by likeness, by filters."""

from datetime import datetime

from pydantic import BaseModel

from server.console.api.client import Api
from server.console.api.map import By

MOST_HITS = 200
NEAR_DUPLICATE = 0.999  # the cosine of the weights above which two adapters are nearly the same


class Hit(BaseModel):
    """A version that matches; `score` is a cosine, 0 where nothing was asked for."""

    reference: str
    score: float
    base: str
    rank: int
    licence: str | None
    tags: list[str]
    owner: str
    status: str
    created_at: datetime


class Hits(BaseModel):
    """The hits of a search, best first."""

    hits: list[Hit]


async def search(
    api: Api, *, text: str = "", like: str = "", by: By = "weights", filter_text: str = "",
    limit: int = MOST_HITS,
) -> list[Hit]:  # fmt: skip
    """Return what matches; without a text and `like`, what passes the filter, by name."""
    query = {
        "text": text or None, "like": like or None, "by": by, "filter": filter_text, "limit": limit,
    }  # fmt: skip
    return (await api.get(Hits, "search", query=query)).hits
