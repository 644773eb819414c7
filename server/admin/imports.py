"""Imports: an upload as a tar stream, a folder below an allowed root, or an allowed owner's adapter
on the Hub, with the caller's token. The server's own token would open its private repositories to
every publisher, so that only the command line on the server itself uses it.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field

from registry.callers import Caller
from registry.paging import Page
from registry.references import Reference
from registry.sources.hub_address import HubAddress, parse_address
from registry.sources.upload import import_tar
from registry.types import Registration, ShownStatus
from server.admin.bodies import HubImportBody, ImportBody
from server.admin.fields import (
    AskedAlias,
    AskedBase,
    AskedOrigin,
    Cursor,
    HubToken,
    Limit,
    Name,
)
from server.admin.receiving import Uploads
from server.admin.rules import check_alias_move, check_hub_owner, check_import_root
from server.admin.schemas import (
    FindingItem,
    Item,
    PageOf,
    RegisteredItem,
    SimilarItem,
    VersionItem,
)
from server.auth import Owner, Publisher, Reader
from server.gateway import Gateway
from server.routing import admin_routes

_HUB_SECONDS = 600.0  # for one file
_Outcome = Annotated[Literal["admitted", "refused"], Query(description="How the imports ended.")]
_TAR = {
    "required": True,
    "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}},
}


class ImportItem(Item):
    """An import: of a version, with its findings, or one that was refused, with the problems."""

    reference: str | None = Field(None, examples=["team/legal@3"])
    name: str = Field(examples=["team/legal"])
    source: str | None = Field(examples=["hf:acme/legal-lora@0123456#"])
    digest: str | None = Field(None, examples=["3f" * 32])
    status: ShownStatus | None = Field(None, examples=["admitted"])
    findings: list[FindingItem] = Field([], examples=[[]])
    problems: list[str] = Field([], examples=[["A001 config-missing"]])
    at: datetime = Field(examples=["2026-11-22T08:10:00Z"])
    by: str = Field(examples=["ci"])


def imports_router(gateway: Gateway) -> APIRouter:
    """Return the routes that create versions of adapters."""
    router = admin_routes("", "adapters")
    registry, settings = gateway.registry, gateway.settings
    uploads = Uploads(gateway.pools.uploads)

    @router.post(
        "/adapters/{name:path}/-/versions", status_code=201, openapi_extra={"requestBody": _TAR}
    )
    async def upload_version(
        name: Name, request: Request, caller: Owner, base: AskedBase = None,
        alias: AskedAlias = None, origin: AskedOrigin = None,
    ) -> RegisteredItem:  # fmt: skip
        """Import an adapter from the body: an uncompressed tar of its PEFT folder."""
        check_alias_move(caller, alias, settings.protected_aliases)

        def register(chunks: Iterator[bytes]) -> RegisteredItem:
            made = import_tar(
                registry, chunks, name=name, limit_bytes=settings.import_max_bytes, base=base,
                alias=alias, origin=origin, actor=caller.name,
            )  # fmt: skip
            return registered(gateway, made, caller)

        return await uploads.receive(caller, request.stream(), register)

    @router.get("/imports")
    def list_imports(
        caller: Reader, outcome: _Outcome = "admitted", cursor: Cursor = None, limit: Limit = 20
    ) -> PageOf[ImportItem]:
        """List imports, newest first: versions with their findings, or refusals with their reasons.

        Refusals are remembered of imports from the Hub alone.
        """
        log = registry.imports
        pages = log.admitted if outcome == "admitted" else log.refused
        page: Page[Any] = pages(cursor=cursor, limit=limit, caller=caller)
        return PageOf[ImportItem].of(ImportItem, page)

    @router.post("/imports", status_code=201)
    async def import_folder(body: ImportBody, caller: Publisher) -> RegisteredItem:
        """Import an adapter from a folder on the server."""
        caller.need_name(body.name)
        check_alias_move(caller, body.alias, settings.protected_aliases)
        folder = check_import_root(body.folder, settings.import_roots)

        def register() -> RegisteredItem:
            made = registry.adapters.register(
                folder, name=body.name, base=body.base, alias=body.alias,
                source=f"folder:{folder}", actor=caller.name,
            )  # fmt: skip
            return registered(gateway, made, caller)

        return await uploads.run(caller, register)

    @router.post("/imports/hub", status_code=201)
    async def import_from_hub(
        body: HubImportBody, caller: Publisher, x_hub_token: HubToken = None
    ) -> RegisteredItem:
        """Import an adapter from the Hugging Face Hub, with the token in the header X-Hub-Token."""
        caller.need_name(body.name)
        check_alias_move(caller, body.alias, settings.protected_aliases)
        address = parse_address(body.address)
        check_hub_owner(address, settings.hub_owners)

        def register() -> RegisteredItem:
            return registered(gateway, fetch(body, address, x_hub_token, caller), caller)

        return await uploads.run(caller, register)

    def fetch(
        body: HubImportBody, address: HubAddress, token: str | None, caller: Caller
    ) -> Registration:
        from registry.sources.hub import HubImport  # here: commands at home do without the Hub
        from registry.sources.hub_client import HubClient

        client = HubClient(  # False: never the server's own token
            settings.hub_endpoint, token or False, download_seconds=_HUB_SECONDS, tries=2
        )
        source = HubImport(
            registry, client, settings.import_max_bytes, name=body.name, base=body.base,
            alias=body.alias, actor=caller.name,
        )  # fmt: skip
        return source.register(address)

    return router


def registered(gateway: Gateway, made: Registration, caller: Caller) -> RegisteredItem:
    """Return the result of an import; `similar` has only what the caller can see."""
    reference = Reference(name=made.version.name, version=made.version.number)
    similar = gateway.registry.search.finder.similar(reference, caller)
    return RegisteredItem(
        version=VersionItem.model_validate(made.version),
        created=made.created,
        findings=[FindingItem(**found) for found in made.report.to_json()["findings"]],
        similar=[SimilarItem.model_validate(found) for found in similar],
    )
