"""Previews: what a recipe's ingredients say of their merge, measured in a process beside builds.

One preview at a time, in a worker of its own that starts with the first: neither the event loop nor
a build waits for it. Results are remembered. Not covered: what is measured (`merge.preview`).
"""

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from merge.errors import ProcessDied
from merge.recipe import Recipe
from registry.callers import Caller
from registry.storage.blobs import BlobStore
from server.artifacts.build import BuildFailed
from server.artifacts.store import storage_errors
from server.artifacts.worker import limited
from server.artifacts.workers import WorkerDied, WorkerHangs, Workers
from server.fair_queue import FairQueue
from server.pools import PoolFull
from server.settings import Settings
from server.shared_tasks import shared_task

if TYPE_CHECKING:
    from merge.preview import Preview  # which imports torch

_SECONDS = 20.0
_GRACE_SECONDS = 60.0  # for the start of the process, which imports torch
_WAITING, _WAITING_OF_ONE = 16, 4
_REMEMBERED = 256


class PreviewTooLarge(Exception):
    """The ingredients take too long, or too much memory, to be measured for a preview."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"measuring the ingredients takes more than {what}: name fewer of them, or build the "
            "merge, whose report has its own figures"
        )

    def __reduce__(self) -> tuple[type["PreviewTooLarge"], tuple[str]]:
        """Pickle with what it takes: the default would pass the message to `__init__`."""
        return PreviewTooLarge, (self.what,)


class Previews:
    """Measures recipes' ingredients, and remembers the figures. Use it on one event loop."""

    def __init__(self, settings: Settings, versions: BlobStore) -> None:
        self._versions = versions
        self._workers = Workers(1, settings.merge_max_bytes)
        self._queue = FairQueue(
            slots=1, most=_WAITING, share=_WAITING_OF_ONE, full=_full, share_full=_full
        )
        self._known: OrderedDict[str, Preview] = OrderedDict()

    async def stop(self) -> None:
        """End the worker."""
        await self._workers.stop()

    async def of(self, recipe: Recipe, *, caller: Caller) -> "Preview":
        """Return the figures of a recipe's ingredients. Callers take turns by `Caller.owner`.

        Raises:
            merge.errors.MergeError, FormatError: the ingredients cannot be merged or read.
            PreviewTooLarge: they are too many or too large.
            PoolFull: too many previews wait.
            BuildFailed: the worker was killed.
            registry.errors.StorageFailed, StoreBroken, and others: their files cannot be had.
        """
        key = recipe.digest()
        if key not in self._known:
            await self._in_turn(key, recipe, caller)
        self._known.move_to_end(key)
        return self._known[key]

    async def _in_turn(self, key: str, recipe: Recipe, caller: Caller) -> None:
        ticket = object()
        turn = self._queue.enter(ticket, caller.owner)
        try:
            await turn
        except asyncio.CancelledError:
            self._queue.leave(ticket)
            raise
        work = shared_task(self._measure(key, recipe), name=f"preview {key[:12]}")
        # A cancelled request leaves the process busy: its turn lasts until that is free.
        work.add_done_callback(lambda _: self._queue.leave(ticket))
        await asyncio.shield(work)

    async def _measure(self, key: str, recipe: Recipe) -> None:
        if key in self._known:  # since another request, which was waited for
            return
        with storage_errors():
            folders = {
                item.digest: await asyncio.to_thread(self._versions.path, item.digest)
                for item in recipe.ingredients
            }
            call = functools.partial(_preview, recipe.canonical(), folders)
            try:
                self._known[key] = await self._workers.run(call, _SECONDS + _GRACE_SECONDS)
            except WorkerHangs as error:
                raise PreviewTooLarge(f"{_SECONDS:g} s") from error
            except (WorkerDied, ProcessDied) as error:
                raise BuildFailed("the process that measures was killed; try again") from error
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def _full(_: int) -> PoolFull:
    return PoolFull("preview")


def _preview(recipe: str, folders: Mapping[str, Path]) -> "Preview":
    """Measure in the worker, in limited time.

    Raises:
        PreviewTooLarge, and as `merge.preview.preview`.
    """
    from merge.preview import preview

    too_large = PreviewTooLarge("the memory of a merge (WEFT_MERGE_MAX_BYTES)")
    with limited(_SECONDS, PreviewTooLarge(f"{_SECONDS:g} s"), too_large):
        return preview(Recipe.parse(recipe), folders)
