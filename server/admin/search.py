"""`GET /registry/search`: adapters by text, by similarity, by examples, by filters."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from registry.references import MAX_LENGTH as MAX_REFERENCE
from registry.references import parse_reference
from registry.search import MAX_EXAMPLE_CHARACTERS, MAX_EXAMPLES, MAX_LIMIT
from registry.search.filters import MAX_LENGTH as MAX_FILTER
from registry.search.finder import Finder, Hit, Question
from registry.types import EmbeddingKind, ShownStatus
from server.admin.bodies import MAX_TEXT
from server.auth import Reader
from server.pools import Pool
from server.routing import admin_routes


class ReasonBody(BaseModel):
    """The contribution of one question to a score."""

    question: Question
    kind: EmbeddingKind
    encoder: str
    cosine: float


class HitBody(BaseModel):
    """A version that matches; `score` is the mean of the cosines in `why`."""

    reference: str
    score: float
    why: list[ReasonBody]
    digest: str
    base: str
    rank: int
    licence: str | None
    tags: list[str]
    owner: str
    status: ShownStatus
    created_at: datetime


class SearchBody(BaseModel):
    """The hits of a search, best first, and the registry's revision before the search."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "revision": 41,
                "hits": [
                    {
                        "reference": "legal@2", "score": 0.62,
                        "why": [
                            {"question": "text", "kind": "text", "encoder": "hashing-1",
                             "cosine": 0.62}
                        ],
                        "digest": "3f" * 32, "base": "meta-llama/Llama-3.1-8B-Instruct",
                        "rank": 16, "licence": "apache-2.0", "tags": ["law"], "owner": "ada",
                        "status": "admitted", "created_at": "2026-11-22T08:10:00Z",
                    }
                ],
            }
        }
    )  # fmt: skip

    revision: int
    hits: list[HitBody]


Text = Annotated[str | None, Query(max_length=MAX_TEXT, description="The search text.")]
Like = Annotated[
    str | None,
    Query(
        max_length=MAX_REFERENCE, description="An adapter: name, name@3, name@alias or a digest."
    ),
]
By = Annotated[EmbeddingKind, Query(description="The embedding that `like` compares.")]
Examples = Annotated[
    list[Annotated[str, Field(max_length=MAX_EXAMPLE_CHARACTERS)]] | None,
    Query(max_length=MAX_EXAMPLES, description="An example request; repeatable."),
]
Filter = Annotated[
    str, Query(max_length=MAX_FILTER, description="A filter, such as `rank<=16 tag=legal,tax`.")
]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="The maximum number of hits.")]


def search_router(finder: Finder, pool: Pool) -> APIRouter:
    """Return the route."""
    router = admin_routes("", "search")

    @router.get("/search")
    async def search(
        caller: Reader,
        text: Text = None,
        like: Like = None,
        by: By = "weights",
        example: Examples = None,
        filter: Filter = "",  # noqa: A002 - the name it has everywhere
        limit: Limit = 10,
    ) -> SearchBody:
        """Search adapters. Without a question, list those that match the filter by name."""

        def run() -> SearchBody:
            revision = finder.revision()
            hits = finder.search(
                text, like=None if like is None else parse_reference(like), by=by,
                examples=example or (), filter=filter, limit=limit,
                caller=caller,
            )  # fmt: skip
            return SearchBody(revision=revision, hits=[hit_body(hit) for hit in hits])

        return await pool.run(run)

    return router


def hit_body(hit: Hit) -> HitBody:
    """Return the body of a hit."""
    return HitBody.model_validate(asdict(hit))
