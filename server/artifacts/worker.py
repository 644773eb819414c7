"""The worker process of builds: runs one merge at a time, in a folder of its own."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from server import children


class BuildTimeout(Exception):
    """The merge reached its time limit."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(
            f"the merge took longer than {seconds:g} s: use fewer ingredients or a lower n_init, "
            "or raise WEFT_MERGE_TIMEOUT_SECONDS"
        )

    def __reduce__(self) -> tuple[type["BuildTimeout"], tuple[float]]:
        """Pickle with the seconds: the default would pass the message to `__init__`."""
        return BuildTimeout, (self.seconds,)


class BuildTooLarge(Exception):
    """The merge reached its memory limit."""


_TOO_LARGE = (
    "the merge needs more memory than one may take: use fewer ingredients, lower ranks or a lower "
    "n_init, or raise WEFT_MERGE_MAX_BYTES"
)


@dataclass(frozen=True, slots=True)
class Built:
    """A finished build, whose files are in the workspace. The store computes their digest."""

    nbytes: int
    seconds: float
    report: str  # JSON


@dataclass(frozen=True, slots=True)
class BuildCall:
    """A call of `build`, as it goes to the process that makes it.

    Attributes:
        function: `build`.
        recipe, folders, out: its arguments; `folders` lacks ingredients that are fetched there.
        options: its keyword arguments.
        digests: of the ingredients.
    """

    function: Callable[..., Built]
    recipe: str
    folders: Mapping[str, Path]
    out: Path
    options: Mapping[str, float]
    digests: tuple[str, ...]

    def __call__(self) -> Built:
        """Make the call."""
        return self.function(self.recipe, self.folders, self.out, **self.options)


# Address space of threads and allocators, which is not memory.
_ADDRESSES = 2**30


def prepare(lifeline: Connection, memory_bytes: int) -> None:
    """Set up a new worker as a child, with torch imported and its kernels on one thread.

    A large build runs in processes forked from this one, each with single-threaded kernels. OpenMP
    threads that spin at barriers beside a busy engine made the same merge thirty times slower.

    Args:
        lifeline: see `children.begin`.
        memory_bytes: what a build may take.
    """
    children.begin(lifeline)
    import torch

    import merge.run  # noqa: F401  # now, so that no request waits for the import

    torch.set_num_threads(1)
    children.limit_memory(memory_bytes + _ADDRESSES)


def warm() -> None:
    """Do nothing. As a worker's first task it makes the pool run `prepare`."""


def build(
    recipe_text: str,
    folders: Mapping[str, Path],
    out: Path,
    *,
    norm_limit: float,
    factor_limit: float,
    threads: int,
    timeout_seconds: float,
) -> Built:
    """Merge `recipe_text` from the folders of its ingredients into `out`.

    Raises:
        merge.errors.MergeError: bad members or an unsafe result.
        BuildTimeout: it took too long.
        BuildTooLarge: it took too much memory.
        merge.errors.ProcessDied: a process of the merge was killed.
        OSError: the disk is full or gone.
    """
    from merge.recipe import Recipe
    from merge.run import REPORT_NAME, merge

    started = time.perf_counter()
    with limited(timeout_seconds, BuildTimeout(timeout_seconds), BuildTooLarge(_TOO_LARGE)):
        merge(
            Recipe.parse(recipe_text), folders, out,
            norm_limit=norm_limit, factor_limit=factor_limit, workers=threads,
        )  # fmt: skip
    nbytes = sum(file.stat().st_size for file in out.iterdir())
    report = (out / REPORT_NAME).read_text()
    return Built(nbytes, time.perf_counter() - started, report)


@contextmanager
def limited(seconds: float, too_long: Exception, too_large: Exception) -> Iterator[None]:
    """Raise `too_long` in a `with` block after these seconds, and `too_large` for want of memory.

    For the main thread of a worker.
    """

    def give_up(_signal: int, _frame: FrameType | None) -> None:
        raise too_long

    previous = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        raise too_large from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _lacks_memory(error: Exception) -> bool:
    # torch's allocator raises a RuntimeError; only its text tells it from others.
    return isinstance(error, MemoryError) or "alloc" in str(error)
