"""Adapters as ingredients: found by text, and what they are asked for example."""

from pydantic import BaseModel

from server.console.api.client import Api


class Found(BaseModel):
    """An adapter version that matches a search."""

    reference: str
    tags: list[str]


class _Search(BaseModel):
    hits: list[Found]


class _Examples(BaseModel):
    examples: list[str]


async def find(api: Api, text: str, limit: int) -> list[Found]:
    """Return what matches a text, best first; without a text, adapters by name."""
    query = {"text": text.strip() or None, "limit": limit}
    return (await api.get(_Search, "search", query=query)).hits


async def examples(api: Api, name: str) -> list[str]:
    """Return the example requests of an adapter."""
    return (await api.get(_Examples, "adapters", name, "-", "examples")).examples
