"""`GET /v1/models`: what a client may write in `model`, apart from expressions and digests."""

import asyncio
from typing import Any

from fastapi import APIRouter

from registry.callers import Caller
from registry.errors import UnknownReference
from registry.references import parse_reference
from registry.service import Registry
from registry.types import ListedModel
from server.auth import Reader


def models_router(registry: Registry, *, base: str, served_name: str) -> APIRouter:
    """Return the routes for the models of one served base."""
    router = APIRouter()

    def cards(caller: Caller) -> list[dict[str, Any]]:
        own = {"id": served_name, "object": "model", "created": 0, "owned_by": "weft",
               "kind": "base"}  # fmt: skip
        found = registry.catalogue.models(caller=caller)
        return [own, *(_card(item) for item in found if item.base == base)]

    def pinned(model: str, caller: Caller) -> dict[str, Any]:
        """A version by number, or a digest: answered, though not listed."""
        found = registry.versions.resolve(parse_reference(model), caller=caller)
        if found.base != base:
            raise UnknownReference(model)
        return {"id": model, "object": "model", "created": 0, "owned_by": "weft",
                "kind": type(found).__name__.removeprefix("Resolved").lower(),
                "parent": found.base}  # fmt: skip

    @router.get("/v1/models")
    async def list_models(caller: Reader) -> dict[str, Any]:
        """List the base, and every adapter, composition and alias for it that you may use."""
        return {"object": "list", "data": await asyncio.to_thread(cards, caller)}

    @router.get("/v1/models/{model:path}")
    async def get_model(model: str, caller: Reader) -> dict[str, Any]:
        """Return one entry of the list."""
        for card in await asyncio.to_thread(cards, caller):
            if card["id"] == model:
                return card
        return await asyncio.to_thread(pinned, model, caller)

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
