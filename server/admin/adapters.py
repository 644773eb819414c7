"""`/registry/adapters`: lists, versions, tags, examples and quarantine."""

from fastapi import APIRouter

from registry.references import Reference
from server.admin.bodies import ExamplesBody, StatusBody, TagsBody
from server.admin.fields import Cursor, Limit, Name, Number
from server.admin.schemas import (
    AdapterItem,
    ExamplesItem,
    PageOf,
    StatusItem,
    TagsItem,
    VersionDetail,
    VersionItem,
)
from server.auth import Operator, Owner, Reader
from server.gateway import Gateway
from server.routing import admin_routes


def adapters_router(gateway: Gateway) -> APIRouter:
    """Return the routes that only adapters have."""
    router = admin_routes("/adapters", "adapters")
    _add_versions(router, gateway)
    _add_descriptions(router, gateway)
    catalogue = gateway.registry.catalogue

    @router.get("")
    def list_adapters(
        caller: Reader, cursor: Cursor = None, limit: Limit = 20
    ) -> PageOf[AdapterItem]:
        """List adapters by name."""
        page = catalogue.adapters(cursor=cursor, limit=limit, caller=caller)
        return PageOf[AdapterItem].of(AdapterItem, page)

    @router.get("/{name:path}")  # last: a name's slashes would swallow what stands behind it
    def get_adapter(name: Name, caller: Reader) -> AdapterItem:
        """Return an adapter."""
        return AdapterItem.model_validate(catalogue.adapter(name, caller=caller))

    return router


def _add_versions(router: APIRouter, gateway: Gateway) -> None:
    registry = gateway.registry

    @router.get("/{name:path}/-/versions")
    def list_versions(
        name: Name, caller: Reader, cursor: Cursor = None, limit: Limit = 20
    ) -> PageOf[VersionItem]:
        """List the versions of an adapter, newest first, including retired ones."""
        page = registry.catalogue.adapter_versions(name, cursor=cursor, limit=limit, caller=caller)
        return PageOf[VersionItem].of(VersionItem, page)

    @router.get("/{name:path}/-/versions/{number}")
    def get_version(name: Name, number: Number, caller: Reader) -> VersionDetail:
        """Return a version with its card, modules and admission report."""
        version = registry.catalogue.adapter_version(
            Reference(name=name, version=number), caller=caller
        )
        return VersionDetail.model_validate(version)

    @router.put("/{name:path}/-/versions/{number}/status")
    def set_status(name: Name, number: Number, body: StatusBody, caller: Operator) -> StatusItem:
        """Quarantine, retire or release a content, and with it all that was made of it."""
        reference, versions = Reference(name=name, version=number), registry.versions
        if body.reason is None or body.status == "admitted":
            reach = versions.release(reference, caller.name, caller=caller)
        else:
            end = versions.quarantine if body.status == "quarantined" else versions.withdraw
            reach = end(reference, body.reason, caller.name, caller=caller)
        return StatusItem.model_validate(reach)


def _add_descriptions(router: APIRouter, gateway: Gateway) -> None:
    descriptions = gateway.registry.search.descriptions

    @router.get("/{name:path}/-/tags")
    def get_tags(name: Name, caller: Reader) -> TagsItem:
        """Return the tags of an adapter."""
        return TagsItem(tags=list(descriptions.tags(name, caller=caller)))

    @router.patch("/{name:path}/-/tags")
    def change_tags(name: Name, body: TagsBody, caller: Owner) -> TagsItem:
        """Add tags to an adapter and remove others."""
        after = descriptions.change_tags(
            name, add=body.add, remove=body.remove, actor=caller.name, caller=caller
        )
        return TagsItem(tags=list(after))

    @router.get("/{name:path}/-/examples")
    def get_examples(name: Name, caller: Reader) -> ExamplesItem:
        """Return the example requests of an adapter."""
        return ExamplesItem(examples=list(descriptions.examples(name, caller=caller)))

    @router.put("/{name:path}/-/examples")
    def set_examples(name: Name, body: ExamplesBody, caller: Owner) -> ExamplesItem:
        """Replace the example requests of an adapter, by which it can be found."""
        descriptions.set_examples(name, body.examples, actor=caller.name, caller=caller)
        return ExamplesItem(examples=body.examples)
