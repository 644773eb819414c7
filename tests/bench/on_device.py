"""Merge methods alone, on tensors that lie on a device already: no files, no threads, no report.

A method that takes groups gets all modules as one. The floor is the device's own copying of as
many bytes as go in and out.

What `lego` of five rank-16 adapters at 8B shapes takes on a GPU of 3.3 TB/s, by arithmetic, not
measured: 840 MB of float32 pass six times (side by side, inner products, largest entries,
centroids), 1.5 ms; inner products are 33 GFLOP, 1 ms; k-means of 2,240 restarts is one batch of
some 300 launches on arrays of 6 to 23 MB, 2 to 3 ms; 200 more launches, 1 ms. So the device can do
it in 10 ms. The host's lists and draws for 224 modules, 13 ms on one busy core, come on top.

From files, 420 MB cross PCIe in 8 ms beside 10 to 15 ms of reading into pinned memory, and SHA-256
of the result (84 MB, one core) takes 65 to 85 ms: more than all else. A hash over chunks on several
cores would take 10 to 20, but gives every artifact another identity; that takes a second form of
digest beside the present one, and is not done here.
"""

import time
from collections.abc import Mapping

import torch

from merge.factors import Factors, Stack
from merge.methods import METHODS, MergeMethod
from merge.peft_format import open_folder
from merge.peft_io import read_peft
from tests.bench.inputs import Ingredients

_REPEATS = 3


def stacks_on(device: torch.device, ingredients: Ingredients) -> list[Stack]:
    """Return every module of all ingredients at equal weights, float32 on the device."""
    folders = [open_folder(path) for path in ingredients.paths]
    weights = (1.0 / len(folders),) * len(folders)
    stacks = []
    for name in folders[0].modules:
        read = [read_peft(folder, folder.modules[name]) for folder in folders]
        members = tuple(Factors(_to(device, f.a), _to(device, f.b), f.scale) for f in read)
        stacks.append(Stack(name, members, weights))
    return stacks


def _to(device: torch.device, x: torch.Tensor) -> torch.Tensor:
    return x if device.type == "cpu" else x.pin_memory().to(device, non_blocking=True)


def seconds_of(method: MergeMethod, options: Mapping[str, object], stacks: list[Stack]) -> float:
    """Return the best time over all modules, after a first round to warm up."""
    bound = method.bind(options)
    del bound["scale"]
    count = method.requirements.members
    best = float("inf")
    for _ in range(_REPEATS + 1):
        # New stacks: what one remembers of its inner products must not count for the next.
        fresh = [Stack(s.module, tuple(s.members)[:count], s.weights[:count]) for s in stacks]
        _wait(stacks)
        begin = time.perf_counter()
        for _ in method.merge(fresh, bound):
            pass
        _wait(stacks)
        best = min(best, time.perf_counter() - begin)
    return best


def copy_bandwidth(device: torch.device, *, nbytes: int = 2**30) -> float:
    """Return bytes read and written per second by the device's own copying."""
    source = torch.empty(nbytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(_REPEATS + 1):
        _synchronize(device)
        begin = time.perf_counter()
        target.copy_(source)
        _synchronize(device)
        best = min(best, time.perf_counter() - begin)
    return 2 * nbytes / best


def nbytes_of(stacks: list[Stack], count: int | None, rank: int) -> int:
    """Return the bytes that a merge to `rank` reads and writes, in float32."""
    total = 0
    for stack in stacks:
        members = tuple(stack.members)[:count]
        width = members[0].a.shape[1] + members[0].b.shape[0]
        total += 4 * width * (sum(f.rank for f in members) + rank)
    return total


def table(
    device: torch.device,
    ingredients: Ingredients,
    cases: Mapping[str, tuple[str, dict[str, object]]],
) -> dict[str, dict[str, float]]:
    """Return seconds and the multiple of the copying time, by case; cases are (method, options)."""
    stacks = stacks_on(device, ingredients)
    bandwidth = copy_bandwidth(device)
    rows = {}
    for name, (method, options) in cases.items():
        found = METHODS[method]
        seconds = seconds_of(found, options, stacks)
        rank = found.result_rank(stacks[0].ranks[: found.requirements.members], found.bind(options))
        floor = nbytes_of(stacks, found.requirements.members, rank) / bandwidth
        rows[name] = {"seconds": seconds, "times_copy": seconds / floor}
    return rows


def _wait(stacks: list[Stack]) -> None:
    _synchronize(stacks[0].members[0].a.device)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
