"""A composition's merge becomes a version of an adapter, so that it can be merged further."""

import asyncio
import functools

from registry.callers import Caller
from registry.references import Reference
from registry.types import Registration
from server.compose.resolve import Planned
from server.errors import RequestInvalid
from server.gateway import Gateway
from server.metrics import Timings


async def publish(
    gateway: Gateway, composition: Reference, adapter: str, alias: str | None, caller: Caller
) -> Registration:
    """Merge a composition, unless its artifact is there, and register the result.

    The adapter's name decides who may know of it from now on, not the ingredients' any more.

    Raises:
        RequestInvalid: the reference is no composition's.
        registry.errors.RegistryError: it cannot be resolved, or the result is refused.
        merge.errors.MergeError, BuildTimeout, BuildFailed, BuildQueueFull, StoreFull: not merged.
    """
    resolve = functools.partial(gateway.resolver.resolve, caller=caller)
    target = await asyncio.to_thread(resolve, str(composition))
    if not isinstance(target, Planned):
        raise RequestInvalid(f"{composition} is no composition: there is nothing to merge")
    async with gateway.provider.hold(target, Timings()) as digest:
        register = functools.partial(
            gateway.registry.register, gateway.artifacts.path(digest), name=adapter,
            base=target.recipe.base, alias=alias, source=f"composition:{composition}",
            actor=caller.name,
        )  # fmt: skip
        return await asyncio.to_thread(register)
