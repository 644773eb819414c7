"""`GET /v1/models`: what a client may write in `model`, apart from expressions and digests."""

import asyncio
from typing import Any

from fastapi import APIRouter

from registry.errors import UnknownReference
from registry.references import parse_reference
from registry.service import Registry
from registry.types import ListedModel


def models_router(registry: Registry, *, base: str, served_name: str) -> APIRouter:
    """Return the routes for the models of one served base."""
    router = APIRouter()

    def cards() -> list[dict[str, Any]]:
        own = {"id": served_name, "object": "model", "created": 0, "owned_by": "weft",
               "kind": "base"}  # fmt: skip
        return [own, *(_card(item) for item in registry.model_ids() if item.base == base)]

    def pinned(model: str) -> dict[str, Any]:
        """A version by number, or a digest: answered, though not listed."""
        found = registry.resolve(parse_reference(model))
        if found.base != base:
            raise UnknownReference(model)
        return {"id": model, "object": "model", "created": 0, "owned_by": "weft",
                "kind": type(found).__name__.removeprefix("Resolved").lower(),
                "parent": found.base}  # fmt: skip

    @router.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """List the base, and every adapter, composition and alias for it."""
        return {"object": "list", "data": await asyncio.to_thread(cards)}

    @router.get("/v1/models/{model:path}")
    async def get_model(model: str) -> dict[str, Any]:
        """Return one entry of the list."""
        for card in await asyncio.to_thread(cards):
            if card["id"] == model:
                return card
        return await asyncio.to_thread(pinned, model)

    return router


def _card(item: ListedModel) -> dict[str, Any]:
    return {
        "id": item.id,
        "object": "model",
        "created": int(item.created_at.timestamp()),
        "owned_by": "weft",
        "kind": item.kind,
        "parent": item.base,
    }
