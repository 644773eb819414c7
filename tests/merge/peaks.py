"""The peak memory of one module's merge by every method: `python -m tests.merge.peaks`.

Prints [[method, shape number, estimated bytes, measured bytes], …] as JSON. In a process of its
own, whose allocator returns memory at once, so that peaks can be compared.
"""

import ctypes
import gc
import json
from pathlib import Path

import torch

from merge.factors import Factors, Members, Stack
from merge.measure import measure
from merge.methods import METHODS, MergeMethod
from merge.written import Written
from tests.laws.laws import random_factors

# (members, rank of each, d_in, d_out): many thin members in a wide module; few in a narrow one.
SHAPES = ((8, 16, 1536, 1024), (3, 64, 768, 2560))


def stack_of(method: MergeMethod, count: int, rank: int, d_in: int, d_out: int) -> Stack:
    """Return near-copies, which take the safest and largest way through every method."""
    count = min(count, method.requirements.members or count)
    one = random_factors(1, rank, d_in, d_out, scale=1.0)
    made = [random_factors(seed, rank, d_in, d_out, scale=1.0) for seed in range(count)]
    members = [Factors(one.a + 1e-5 * other.a, one.b) for other in made]
    a, b = torch.cat([f.a for f in members]), torch.cat([f.b for f in members], 1)
    weights = tuple(
        1.0 if i % 2 or method.requirements.positive_weights else -0.999 for i in range(count)
    )
    return Stack("m", Members.joined(a, b, [(rank, 1.0)] * count), weights)


def peak_of(method: MergeMethod, stack: Stack) -> int:
    """Return the bytes that a merge of the module and its measure add to the inputs."""
    options = method.bind({})
    del options["scale"]
    if "rank" in options:
        options["rank"] = stack.ranks[0]
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    merged = method.function(stack, **options)
    measure(stack, merged, range(len(stack.members)), Written.of(merged.factors))
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def main() -> None:
    """Measure every method at every shape."""
    torch.set_num_threads(1)
    rows = []
    for number, (count, rank, d_in, d_out) in enumerate(SHAPES):
        for name, method in METHODS.items():
            peak_of(method, stack_of(method, 2, 4, 64, 64))  # code and buffers of its first use
            stack = stack_of(method, count, rank, d_in, d_out)
            options = method.bind({"rank": rank} if "rank" in method.parameters else {})
            about = method.estimate([(stack.ranks, d_in, d_out)], options, threads=1)
            inputs = 4 * (d_in + d_out) * stack.total_rank
            rows.append([name, number, about.nbytes, peak_of(method, stack) + inputs])
    print(json.dumps(rows))  # noqa: T201  # the test reads it


if __name__ == "__main__":
    main()
