"""From a job's row to the spec of its child process: digests and file ids become paths."""

from registry.jobs.types import Job
from registry.service import Registry
from registry.storage.blobs import BlobStore
from server.jobs.datasets import prompts, read_conversations
from server.jobs.finish import caller_of_job
from server.jobs.pools import compared, members_of
from server.jobs.storage import JobStorage
from server.jobs.worker import WorkerSpec
from server.settings import Settings


def spec_of(
    job: Job,
    device: str,
    settings: Settings,
    registry: Registry,
    versions: BlobStore,
    storage: JobStorage,
) -> WorkerSpec:
    """Return the spec of a job's child process. Blocking.

    Raises:
        DatasetInvalid: the selection compares texts, and the examples cannot be read.
        registry.errors.BlobMissing: the files of a pool's member are gone.
        OSError: the files cannot be read.
    """
    training = storage.file(job.training_file)
    members = members_of(job.request, versions)
    if job.request["options"]["selection"] == "text":
        texts = list(prompts(read_conversations(training, "training_file").values()))
        members = compared(registry, members, texts, caller_of_job(job))
    return WorkerSpec(
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
