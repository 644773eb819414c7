"""Learning as a task of Ray, with a GPU where the cluster has one.

The task starts the same child process as a gateway does on one machine, and passes its messages on.
Rows, claims, heartbeats and retries stay the runner's: Ray tries nothing again. The task runs on
the gateway's machine, where the job's folder is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from registry.jobs.types import Note
from server.children import ChildDied, ChildFailed
from server.jobs.failures import Failure
from server.jobs.launch import launch_here
from server.jobs.worker import Entry, WorkerSpec


@dataclass(frozen=True, slots=True)
class _Died:
    """The last message of a child that was killed."""

    code: int | None


class RayChild:
    """See `server.jobs.launch.LearningChild`.

    Args:
        entry: what the child runs.
        spec: what it needs.
        names: environment variables that it may read.
    """

    def __init__(self, entry: Entry, spec: WorkerSpec, names: tuple[str, ...]) -> None:
        gpus = 0 if spec.device == "cpu" else min(1, int(_gpus_here()))
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        task = ray.remote(learn_here).options(
            num_cpus=0, num_gpus=gpus, max_retries=0, num_returns="streaming",
            scheduling_strategy=here,
        )  # fmt: skip
        # Ray lets the process see its own GPU alone, which is the first one for it.
        device = "cuda" if spec.device.startswith("cuda") else spec.device
        self._stream = task.remote(entry, replace(spec, device=device), names)

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

    def kill(self) -> None:
        """End the child now: it ends with the process of its task."""
        ray.cancel(self._stream, force=True)

    def reap(self) -> None:
        """End the child."""
        self.kill()


def learn_here(
    entry: Entry, spec: WorkerSpec, names: tuple[str, ...]
) -> Iterator[Note | Failure | _Died]:
    """Run a job's child to its end, and yield what it sends."""
    with launch_here(entry, spec, names) as child:
        try:
            yield from child.messages()
        except ChildFailed as error:
            yield error.reason
        except ChildDied as error:
            yield _Died(error.code)


def _gpus_here() -> float:
    """Return the GPUs of this machine, as Ray counts them."""
    node = ray.get_runtime_context().get_node_id()
    resources: dict[str, Any] = next(
        one["Resources"] for one in ray.nodes() if one["NodeID"] == node
    )
    return float(resources.get("GPU", 0))
