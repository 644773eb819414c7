"""`/registry/artifacts` and `/registry/lineage`: merged adapters and how they were made."""

from fastapi import APIRouter, Response

from registry.types import Artifact
from server.admin.fields import Cursor, Digest, DigestStart, Limit
from server.admin.schemas import ArtifactDetail, ArtifactItem, LineageItem, PageOf
from server.auth import Operator, Reader
from server.gateway import Gateway
from server.routing import admin_routes


def artifacts_router(gateway: Gateway) -> APIRouter:
    """Return the routes of artifacts and lineage."""
    router = admin_routes("", "artifacts")
    registry, store = gateway.registry, gateway.artifacts

    def item(artifact: Artifact) -> ArtifactItem:
        return ArtifactItem.made(artifact, on_disk=store.has(artifact.digest))

    @router.get("/artifacts")
    def list_artifacts(
        caller: Reader, cursor: Cursor = None, limit: Limit = 20
    ) -> PageOf[ArtifactItem]:
        """List the artifacts that were ever built, by digest."""
        page = registry.catalogue.artifacts(cursor=cursor, limit=limit, caller=caller)
        return PageOf(items=[item(a) for a in page.items], next_cursor=page.next_cursor)

    @router.get("/artifacts/{digest}")
    def get_artifact(digest: DigestStart, caller: Reader) -> ArtifactDetail:
        """Return an artifact with the report of its merge and the result of its canary."""
        artifact = registry.catalogue.artifact(digest, caller=caller)
        canary = registry.canaries.newest(artifact.digest, caller=caller)
        return ArtifactDetail.made(artifact, on_disk=store.has(artifact.digest), canary=canary)

    @router.delete("/artifacts/{digest}", status_code=204, response_class=Response)
    async def remove_artifact(digest: Digest, caller: Operator) -> None:
        """Remove an artifact from the engines, the disk and the object store.

        A later request builds it again, unless another gateway still has a copy.
        """
        await gateway.pools.admin.run(registry.catalogue.artifact, digest, caller=caller)
        await gateway.evictor.remove(digest)
        await gateway.pools.admin.run(
            registry.access.audit.note, caller.name, "artifact.removed", digest
        )

    @router.get("/lineage/{digest}")
    def get_lineage(
        digest: DigestStart, caller: Reader, cursor: Cursor = None, limit: Limit = 20
    ) -> LineageItem:
        """Return the recipes that made a digest, and page by page those that use it."""
        lineage = registry.compositions.lineage(digest, cursor=cursor, limit=limit, caller=caller)
        return LineageItem.model_validate(lineage)

    return router
