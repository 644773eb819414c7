"""Learning as a task of Ray, with a GPU where the cluster has one.

The task starts the same child process as a gateway does on one machine, and passes its messages on.
Rows, claims, heartbeats and retries stay the runner's: Ray tries nothing again. With an object
store the task runs anywhere: its machine claims the job's folder, saves it as it changes, and the
gateway claims it back at the end. Without one it runs on the gateway's machine, in its folders.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from registry.jobs.types import Note
from registry.storage.blobs import BlobStore
from server.children import ChildDied, ChildFailed
from server.jobs.failures import Failure, failure_of
from server.jobs.launch import launch_here
from server.jobs.storage import JobStorage
from server.jobs.worker import Entry, WorkerSpec
from server.settings import Settings
from server.stores import job_storage, version_store

_SAVE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Died:
    """The last message of a child that was killed."""

    code: int | None


class RayChild:
    """See `server.jobs.launch.LearningChild`, and `Launch` for the arguments."""

    def __init__(
        self, entry: Entry, spec: WorkerSpec, names: tuple[str, ...], storage: JobStorage
    ) -> None:
        # Ray lets the process see its own GPU alone, which is the first one for it.
        device = "cuda" if spec.device.startswith("cuda") else spec.device
        self._storage, self._job = storage, spec.folder.name
        options: dict[str, Any] = {"num_cpus": 0, "max_retries": 0, "num_returns": "streaming"}
        if storage.shared:
            resources = ray.cluster_resources()
        else:
            node = ray.get_runtime_context().get_node_id()
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=False)
            resources = next(one["Resources"] for one in ray.nodes() if one["NodeID"] == node)
        options["num_gpus"] = 0 if device == "cpu" else min(1, int(resources.get("GPU", 0)))
        learn = learn_anywhere if storage.shared else learn_here
        self._stream = ray.remote(learn).options(**options).remote(
            entry, replace(spec, device=device), names
        )  # fmt: skip

    def messages(self) -> Iterator[Note]:
        """Yield what the child sends until it has finished. Blocking.

        Raises:
            ChildFailed, ChildDied: as `Child.messages`.
        """
        try:
            for reference in self._stream:
                message: Note | Failure | _Died = ray.get(reference)
                if isinstance(message, _Died):
                    raise ChildDied(message.code)
                if isinstance(message, Failure):
                    raise ChildFailed(message)
                yield message
        except RayError as error:
            raise ChildDied(None) from error
        finally:
            self._storage.claim(self._job)  # what was saved elsewhere is brought here

    def kill(self) -> None:
        """End the child now: it ends with the process of its task."""
        ray.cancel(self._stream, force=True)

    def reap(self) -> None:
        """End the child."""
        self.kill()


def learn_here(
    entry: Entry, spec: WorkerSpec, names: tuple[str, ...]
) -> Iterator[Note | Failure | _Died]:
    """Run a job's child in the folders of `spec`, and yield what it sends."""
    with launch_here(entry, spec, names) as child:
        try:
            yield from child.messages()
        except ChildFailed as error:
            yield error.reason
        except ChildDied as error:
            yield _Died(error.code)


def learn_anywhere(
    entry: Entry, spec: WorkerSpec, names: tuple[str, ...]
) -> Iterator[Note | Failure | _Died]:
    """Run a job's child in folders of this machine, which are filled from the object store."""
    try:
        settings = Settings()
        storage, versions = job_storage(settings), version_store(settings)
        job = spec.folder.name
        storage.claim(job)
        here = _on_this_machine(spec, storage, versions)
        with _saving(storage, job, here, versions):
            yield from learn_here(entry, here, names)
        storage.save(job, learned=True)
    except Exception as error:  # of the store or the disk; as the runner tells its own
        yield failure_of(error)


def _on_this_machine(spec: WorkerSpec, storage: JobStorage, versions: BlobStore) -> WorkerSpec:
    """Return the spec with paths of this machine in place of the gateway's."""
    validation = spec.validation
    return replace(
        spec,
        members=tuple(
            replace(member, path=versions.path(member.digest)) for member in spec.members
        ),
        training=storage.file(spec.training.name),
        validation=None if validation is None else storage.file(validation.name),
        folder=storage.folder(spec.folder.name),
        scores=storage.scores,
    )


@contextmanager
def _saving(storage: JobStorage, job: str, spec: WorkerSpec, versions: BlobStore) -> Iterator[None]:
    """Save the job's folder from time to time, and keep the copies of its pool in use."""
    ended = threading.Event()

    def keep_saving() -> None:
        while not ended.wait(_SAVE_SECONDS):
            storage.save(job)
            for member in spec.members:
                versions.path(member.digest)

    thread = threading.Thread(target=keep_saving, name=f"saves of {job}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
