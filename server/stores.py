"""The stores that the settings name: folders of the home, or an object store with copies there."""

from collections.abc import Callable
from functools import cache, partial

from registry.storage.blobs import LocalBlobs
from registry.storage.bucket import Bucket
from registry.storage.cached_blobs import CachedBlobs
from registry.storage.objects import Objects, RequestLimits
from registry.upkeep.garbage import FolderStore
from server.jobs.shared import SharedFiles
from server.jobs.storage import JobStorage
from server.settings import Settings

_VERSIONS, _ARTIFACTS = "versions", "artifacts"


def objects_of(settings: Settings) -> Objects | None:
    """Return the object store, or None where the folders of the home are the stores.

    Raises:
        registry.errors.RegistryError: it cannot be opened: the extra `bucket` is not installed, or
            a variable of the cloud is missing. A store that does not answer raises later.
    """
    return None if settings.store is None else _objects(settings.store, settings.store_limits)


@cache
def _objects(url: str, limits: RequestLimits) -> Objects:
    """Return one client for all stores of this process."""
    return Objects(url, limits)


def version_store(settings: Settings) -> LocalBlobs | CachedBlobs:
    """Return the store of registered adapters. Raises as `objects_of`."""
    local, objects = LocalBlobs(settings.blobs), objects_of(settings)
    return local if objects is None else CachedBlobs(local, Bucket(objects, _VERSIONS))


def artifact_bucket(settings: Settings) -> Bucket | None:
    """Return the bucket of merged adapters, if there is one. Raises as `objects_of`."""
    objects = objects_of(settings)
    return None if objects is None else Bucket(objects, _ARTIFACTS)


def buckets_of(settings: Settings) -> tuple[Bucket, ...]:
    """Return the buckets that an adapter may be in: merged ones, then registered ones.

    There are none without an object store. Raises as `objects_of`.
    """
    objects = objects_of(settings)
    return () if objects is None else (Bucket(objects, _ARTIFACTS), Bucket(objects, _VERSIONS))


def job_storage(settings: Settings) -> JobStorage:
    """Return the storage of uploads and jobs. Raises as `objects_of`."""
    objects = objects_of(settings)
    return JobStorage(settings.jobs, None if objects is None else SharedFiles(objects))


def upload_home(settings: Settings, progress: Callable[[int, int], None]) -> int:
    """Put what the folders of a home hold into the object store; return the number of items.

    Args:
        settings: name the home and the store.
        progress: is called with the number of items that are stored, and of all.

    Raises:
        registry.errors.BlobCorrupt: a folder is damaged; what precedes it is stored.
        registry.errors.StoreUnavailable, OSError: as they say.
    """
    artifacts, versions = buckets_of(settings)
    stored, made = LocalBlobs(settings.blobs), LocalBlobs(settings.artifacts)
    jobs = job_storage(settings)
    folders = [(stored, versions, digest) for digest in sorted(stored.digests())]
    # The engine's folder has links to versions too.
    folders += [(made, artifacts, digest) for digest in sorted(made.digests() - stored.digests())]
    steps: list[Callable[[], object]] = [partial(_upload, *folder) for folder in folders]
    steps += jobs.uploads()
    for number, step in enumerate(steps):
        progress(number, len(steps))
        step()
    return len(steps)


def _upload(local: LocalBlobs, bucket: Bucket, digest: str) -> None:
    local.verify(digest)
    bucket.put(digest, local.path(digest))


def collected_stores(settings: Settings) -> tuple[FolderStore, FolderStore]:
    """Return the stores of versions and of artifacts that garbage is collected from.

    Copies of a bucket's folders are no garbage: their node removes them by its own limits.
    """
    objects = objects_of(settings)
    if objects is None:
        return LocalBlobs(settings.blobs), LocalBlobs(settings.artifacts)
    return Bucket(objects, _VERSIONS), Bucket(objects, _ARTIFACTS)
