"""Exports: the PEFT folder of a version or of an artifact as a tar, with a model card.

Whoever sees an adapter may chat with it; its files are for keys that may publish, since they can be
carried off. Visibility, quarantine and policies hold as in a chat request.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from merge.recipe import Recipe
from registry.callers import Caller
from registry.references import Reference
from registry.types import Artifact, ResolvedArtifact
from server.admin.fields import DigestStart, Name, Number
from server.artifacts.store import storage_errors
from server.auth import Publisher
from server.compose.resolve import Stored
from server.export.contents import artifact_card, members_of, version_card
from server.export.tar import Member, tar, tar_bytes
from server.gateway import Gateway
from server.pools import Pool
from server.routing import admin_routes
from server.telemetry.metrics import Timings

_TAR: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "An uncompressed tar. The header `X-Weft-Digest` has the content's digest.",
        "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def exports_router(gateway: Gateway) -> APIRouter:
    """Return the routes that give files away."""
    router = admin_routes("", "adapters")
    registry, artifacts, pools = gateway.registry, gateway.artifacts, gateway.pools

    @router.get(
        "/adapters/{name:path}/-/versions/{number}/files",
        response_class=StreamingResponse, responses=_TAR,
    )  # fmt: skip
    def get_version_files(name: Name, number: Number, caller: Publisher) -> Response:
        """Export a version: its PEFT folder with a model card, as a tar."""
        facts = version_card(registry, name, number, caller)
        with storage_errors("an export"):
            members = members_of(gateway.versions.path(facts.digest), facts)
        return TarResponse(members, facts.digest, pools.files)

    @router.get("/artifacts/{digest}/files", response_class=StreamingResponse, responses=_TAR)
    async def get_artifact_files(digest: DigestStart, caller: Publisher) -> Response:
        """Export an artifact: its PEFT folder with a model card, as a tar. Evicted files are made
        again."""
        artifact, stored = await pools.admin.run(find, digest, caller)

        def members() -> list[Member]:
            facts = artifact_card(registry, artifact, caller)
            with storage_errors("an export"):
                return members_of(artifacts.path(artifact.digest), facts)

        # The lease ends when the files are open: a slow client holds up no removal.
        async with gateway.provider.hold(stored, Timings(), caller=caller):
            return TarResponse(await pools.admin.run(members), artifact.digest, pools.files)

    def find(digest: str, caller: Caller) -> tuple[Artifact, Stored]:
        artifact = registry.catalogue.artifact(digest, caller=caller)
        found = registry.versions.resolve(Reference(digest=artifact.digest), caller=caller)
        recipe = Recipe.parse(found.recipe_text) if isinstance(found, ResolvedArtifact) else None
        return artifact, Stored(artifact.digest, found.base, recipe)

    return router


class TarResponse(StreamingResponse):
    """A tar of open files, read piece by piece as the client takes it; then they are closed."""

    def __init__(self, members: Sequence[Member], digest: str, pool: Pool) -> None:
        self._members, self._pool = members, pool
        headers = {"content-length": str(tar_bytes(members)), "x-weft-digest": digest}
        super().__init__(self._chunks(), media_type="application/x-tar", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the archive."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            for member in self._members:
                member.file.close()

    async def _chunks(self) -> AsyncIterator[bytes]:
        chunks = tar(self._members)
        while (chunk := await self._pool.run(lambda: next(chunks, None))) is not None:
            yield chunk
