"""What runs inside a build's worker process: one merge, checked, in a folder of its own."""

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from server import children


class BuildTimeout(Exception):
    """The merge took longer than it may."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(
            f"the merge took longer than {seconds:g} s: ask for less (fewer ingredients, a lower "
            "n_init) or raise WEFT_MERGE_TIMEOUT_SECONDS"
        )

    def __reduce__(self) -> tuple[type["BuildTimeout"], tuple[float]]:
        """Travel from the worker with the seconds, not with the message alone."""
        return BuildTimeout, (self.seconds,)


@dataclass(frozen=True, slots=True)
class Built:
    """A finished build: its files are in the workspace that was named."""

    digest: str
    nbytes: int
    seconds: float
    report: str  # JSON


def prepare(lifeline: Connection) -> None:
    """Set up a fresh worker: kernels on one thread, below the engine in priority, torch imported.

    Builds run in parallel over modules with single-threaded kernels: OpenMP threads that spin at
    barriers beside a busy engine made the same merge thirty times slower.
    """
    children.begin(lifeline)
    import torch

    import merge.run  # noqa: F401  # imported now, so that no request waits for it

    torch.set_num_threads(1)


def warm() -> None:
    """Do nothing: the first task of a worker, so that `prepare` has run before a request waits."""


def build(
    recipe_text: str,
    folders: Mapping[str, Path],
    out: Path,
    *,
    norm_limit: float,
    threads: int,
    timeout_seconds: float,
) -> Built:
    """Merge `recipe_text` from the ingredients' folders into `out` and return what came of it.

    Raises:
        merge.errors.MergeError: bad members or an unsafe result.
        BuildTimeout: it took too long.
        OSError: the disk is full or gone.
    """
    from merge.peft_format import digest_folder
    from merge.recipe import Recipe
    from merge.run import merge

    started = time.perf_counter()

    def give_up(_signal: int, _frame: FrameType | None) -> None:
        raise BuildTimeout(timeout_seconds)

    previous = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, timeout_seconds)
    try:
        report = merge(
            Recipe.parse(recipe_text), folders, out, norm_limit=norm_limit, workers=threads
        )
        digest = digest_folder(out)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    nbytes = sum(file.stat().st_size for file in out.iterdir())
    return Built(digest, nbytes, time.perf_counter() - started, report.to_json())
