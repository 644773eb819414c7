"""From a job's row to what its process needs: folders in the place of digests and ids."""

from registry.jobs.types import Job
from registry.service import Registry
from registry.storage.blobs import BlobStore
from server.jobs.datasets import prompts, read_examples
from server.jobs.finish import caller_of
from server.jobs.pools import compared, members_of
from server.jobs.storage import JobStorage
from server.jobs.worker import Task
from server.settings import Settings


def task_of(
    job: Job,
    device: str,
    settings: Settings,
    registry: Registry,
    versions: BlobStore,
    storage: JobStorage,
) -> Task:
    """Return what a job's process is to do. Blocking.

    Raises:
        DatasetInvalid: texts are to be compared, and the examples cannot be read.
        registry.errors.BlobMissing: the files of a pool's member are gone.
        OSError: the files cannot be read.
    """
    training = storage.file(job.training_file)
    members = members_of(job.request, versions)
    if job.request["options"]["selection"] == "text":
        asked = list(prompts(read_examples(training, "training_file").values()))
        members = compared(registry, members, asked, caller_of(job))
    return Task(
        options=job.request["options"],
        members=members,
        training=training,
        validation=None if job.validation_file is None else storage.file(job.validation_file),
        folder=storage.folder(job.id),
        scores=storage.scores,
        model=settings.model,
        base=job.base,
        device=device,
        dtype=settings.merge_dtype,
        rank_limit=settings.max_lora_rank,
        norm_limit=settings.norm_limit,
        memory_bytes=settings.job_memory_bytes,
    )
