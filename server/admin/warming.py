"""Warming: a merge is built and loaded before a request needs it, by its name or as written."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from registry.callers import Caller
from registry.references import MAX_ALIAS_LENGTH
from server.admin.bodies import ModelBody
from server.admin.fields import SEGMENT, Name
from server.admin.schemas import Item
from server.auth import Chatter
from server.compose.resolve import Planned
from server.errors import RequestInvalid
from server.gateway import Gateway
from server.routing import admin_routes
from server.telemetry.metrics import Timings

Version = Annotated[
    str | None,
    Query(
        pattern=f"^([1-9][0-9]{{0,8}}|{SEGMENT})$", max_length=MAX_ALIAS_LENGTH,
        examples=["prod"],
        description="A version's number, or an alias; default: the newest version.",
    ),
]  # fmt: skip


class WarmItem(Item):
    """A composition that is in the engine. Later loads may take its slot again."""

    artifact: str = Field(examples=["a0" * 32])
    recipe: str = Field(examples=["3f" * 32])
    new_slot: bool = Field(examples=[True], description="Whether it was loaded for this request.")
    seconds: dict[str, float] = Field(
        examples=[{"resolve": 0.002, "merge": 0.09, "load": 0.015}], description="By stage."
    )


def warming_router(gateway: Gateway) -> APIRouter:
    """Return the routes."""
    router = admin_routes("", "compositions")

    @router.post("/compositions/{name:path}/warm")
    async def warm_composition(name: Name, caller: Chatter, version: Version = None) -> WarmItem:
        """Merge a composition and load it into the engine, before a request needs it."""
        reference = name if version is None else f"{name}@{version}"
        return await _warm(gateway, ModelBody(model=reference), caller)

    @router.post("/warm")
    async def warm_model(body: ModelBody, caller: Chatter) -> WarmItem:
        """Merge an expression or a composition object and load it, before a request needs it."""
        return await _warm(gateway, body, caller)

    return router


async def _warm(gateway: Gateway, body: ModelBody, caller: Caller) -> WarmItem:
    """Build and load a merge.

    Raises:
        RequestInvalid: it is the base, or a single adapter.
        as `Resolver.resolve` and `Provider.provide`.
    """
    timings, resolve = Timings(), gateway.resolver.resolve
    with timings.measure("resolve"):
        target = await gateway.pools.admin.run(
            resolve, body.named, body.prompt, composition=body.raw_composition, caller=caller
        )
    if not isinstance(target, Planned):
        raise RequestInvalid(f"{body.named} is not a composition. Name a composition.")
    async with gateway.provider.provide(target, timings, caller=caller) as provided:
        return WarmItem(
            artifact=provided.digest, recipe=target.digest, new_slot=timings.new_slot,
            seconds=timings.seconds,
        )  # fmt: skip
