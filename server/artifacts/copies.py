"""The copies that this machine has of an object store's folders: their budget, and their use."""

from registry.jobs.queue import Jobs
from registry.storage.blobs import BlobStore
from registry.storage.cached_blobs import CachedBlobs
from server.artifacts.store import ArtifactStore


def tend_copies(
    versions: BlobStore, artifacts: ArtifactStore, jobs: Jobs, *, budget_bytes: int
) -> None:
    """Reduce the copies of versions to their budget, and tell which artifacts are used. Blocking.

    Does nothing where the folders of the home are the stores.

    Raises:
        registry.errors.DatabaseUnavailable, StoreUnavailable, OSError: the rest is done next time.
    """
    if isinstance(versions, CachedBlobs):
        versions.shrink(budget_bytes, jobs.members)
    artifacts.refresh_used()
