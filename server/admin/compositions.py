"""`/registry/compositions`: named recipes, and publishing them as adapters."""

import functools

from fastapi import APIRouter

from merge.recipe import Recipe
from registry.callers import Caller
from registry.references import Reference
from registry.types import Registration
from server.admin.bodies import CompositionBody, PublishBody
from server.admin.fields import Cursor, Limit, Name, Number
from server.admin.imports import registered
from server.admin.rules import check_alias_move
from server.admin.schemas import (
    CompositionItem,
    CompositionVersionItem,
    PageOf,
    RegisteredItem,
)
from server.auth import Owner, Publisher, Reader
from server.compose.composition import read_composition
from server.compose.expression import Expression, parse_model
from server.compose.resolve import Planned, Resolver
from server.errors import RequestInvalid
from server.gateway import Gateway
from server.routing import admin_routes
from server.telemetry.metrics import Timings


def compositions_router(gateway: Gateway) -> APIRouter:
    """Return the routes that only compositions have."""
    router = admin_routes("/compositions", "compositions")
    _add_versions(router, gateway)
    catalogue = gateway.registry.catalogue

    @router.get("")
    def list_compositions(
        caller: Reader, cursor: Cursor = None, limit: Limit = 20
    ) -> PageOf[CompositionItem]:
        """List compositions by name."""
        page = catalogue.compositions(cursor=cursor, limit=limit, caller=caller)
        return PageOf[CompositionItem].of(CompositionItem, page)

    @router.get("/{name:path}")  # last: a name's slashes would swallow what stands behind it
    def get_composition(name: Name, caller: Reader) -> CompositionItem:
        """Return a composition."""
        return CompositionItem.model_validate(catalogue.composition(name, caller=caller))

    return router


def _add_versions(router: APIRouter, gateway: Gateway) -> None:
    registry = gateway.registry

    @router.get("/{name:path}/-/versions")
    def list_versions(
        name: Name, caller: Reader, cursor: Cursor = None, limit: Limit = 20
    ) -> PageOf[CompositionVersionItem]:
        """List the versions of a composition, newest first, including retired ones."""
        page = registry.catalogue.composition_versions(
            name, cursor=cursor, limit=limit, caller=caller
        )
        return PageOf[CompositionVersionItem].of(CompositionVersionItem, page)

    @router.get("/{name:path}/-/versions/{number}")
    def get_version(name: Name, number: Number, caller: Reader) -> CompositionVersionItem:
        """Return a version of a composition."""
        version = registry.catalogue.composition_version(name, number, caller=caller)
        return CompositionVersionItem.model_validate(version)

    @router.post("/{name:path}/-/versions", status_code=201)
    def add_version(name: Name, body: CompositionBody, caller: Owner) -> CompositionVersionItem:
        """Save an expression or a composition object; its references are resolved now, for good."""
        text, recipe = _planned(gateway.resolver, body, caller)
        made = registry.compositions.add(
            name, expression=text, recipe_text=recipe.canonical(), recipe_digest=recipe.digest(),
            base=recipe.base, ingredients=recipe.lineage, actor=caller.name,
        )  # fmt: skip
        return CompositionVersionItem.model_validate(made)

    @router.post("/{name:path}/-/versions/{number}/publish", status_code=201)
    async def publish_version(
        name: Name, number: Number, body: PublishBody, caller: Publisher
    ) -> RegisteredItem:
        """Merge a version of a composition and register the result as a version of an adapter."""
        caller.need_name(body.adapter)
        check_alias_move(caller, body.alias, gateway.settings.protected_aliases)
        reference = Reference(name=name, version=number)
        made = await publish(gateway, reference, body.adapter, body.alias, caller)
        return await gateway.pools.admin.run(registered, gateway, made, caller)


def _planned(resolver: Resolver, body: CompositionBody, caller: Caller) -> tuple[str, Recipe]:
    """Return what a body says as text, and its recipe.

    Raises:
        RequestInvalid: it is a single reference.
        as `Resolver.resolve`.
    """
    if (raw := body.raw_composition) is not None:
        asked = read_composition(raw)
        return str(asked), resolver.plan_composition(asked, caller=caller)
    text = body.expression or ""
    parsed = parse_model(text)
    if not isinstance(parsed, Expression):
        raise RequestInvalid(f"{text!r} is a single reference. Give that version an alias instead.")
    return text, resolver.plan(parsed, caller=caller)


async def publish(
    gateway: Gateway, composition: Reference, adapter: str, alias: str | None, caller: Caller
) -> Registration:
    """Merge a composition, unless its artifact is built, and register the result.

    The new adapter has the licences of its ingredients, and shares their quarantine. Others see it
    if they see its name and all ingredients outside of its own namespace.

    Raises:
        RequestInvalid: the reference does not name a composition.
        registry.errors.RegistryError: it cannot be resolved, or the result is refused.
        merge.errors.MergeError, StoreFull, and what else `Builder.build` raises: not merged.
        CanaryFailed, CanaryUnanswered: it does not answer the server's canary.
    """
    resolve = functools.partial(gateway.resolver.resolve, caller=caller)
    target = await gateway.pools.admin.run(resolve, str(composition))
    if not isinstance(target, Planned):
        raise RequestInvalid(
            f"{composition} is not a composition. Name a version of a composition."
        )
    async with gateway.provider.hold(target, Timings(), caller=caller) as digest:
        await gateway.provider.vouch(digest, target.base)
        register = functools.partial(
            gateway.registry.adapters.register, gateway.artifacts.path(digest), name=adapter,
            base=target.recipe.base, alias=alias, source=f"composition:{composition}",
            made_of=[digest for digest, _ in target.recipe.lineage], actor=caller.name,
        )  # fmt: skip
        return await gateway.pools.admin.run(register)
