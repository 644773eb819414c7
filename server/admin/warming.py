"""`POST /registry/compositions/{name}/warm`: a merge built and loaded before a request needs it."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from registry.callers import Caller
from registry.references import MAX_ALIAS_LENGTH
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
    """Return the route."""
    router = admin_routes("/compositions", "compositions")

    @router.post("/{name:path}/warm")
    async def warm_composition(name: Name, caller: Chatter, version: Version = None) -> WarmItem:
        """Merge a composition and load it into the engine, before a request needs it."""
        return await _warm(gateway, name if version is None else f"{name}@{version}", caller)

    return router


async def _warm(gateway: Gateway, reference: str, caller: Caller) -> WarmItem:
    """Build and load a composition.

    Raises:
        RequestInvalid: the reference does not name a composition.
        as `Resolver.resolve` and `Provider.provide`.
    """
    timings, resolve = Timings(), gateway.resolver.resolve
    with timings.measure("resolve"):
        target = await gateway.pools.admin.run(resolve, reference, caller=caller)
    if not isinstance(target, Planned):
        raise RequestInvalid(f"{reference} is not a composition. Name a composition.")
    async with gateway.provider.provide(target, timings, caller=caller) as provided:
        return WarmItem(
            artifact=provided.digest, recipe=target.digest, new_slot=timings.new_slot,
            seconds=timings.seconds,
        )  # fmt: skip
