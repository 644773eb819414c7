"""How the CPU time of a call grows with its input: a busy machine slows both sides of a ratio."""

import gc
import time
from collections.abc import Callable
from typing import Any

_TRIES = 5
TIMES = 4  # linear work grows as much, quadratic work four times as much
LINEAR = 2.0 * TIMES
_FLOOR_SECONDS = 0.002  # below it the clock and what runs beside decide


def cpu_seconds(call: Callable[[], Any]) -> float:
    """Return the CPU time of a call in this thread, without garbage collection.

    A process of tests has many times the objects of a gateway.
    """
    gc.disable()
    try:
        before = time.thread_time()
        call()
        return time.thread_time() - before
    finally:
        gc.enable()


def growth(make: Callable[[int], Callable[[], Any]], size: int) -> float:
    """Return how many times as long an input of `size` takes as one of a quarter of it.

    Args:
        make: returns the call for an input of some size; what it does itself is not measured.
        size: of the larger input.
    """
    small, large = make(size // TIMES), make(size)
    least_small = least_large = float("inf")
    for _ in range(_TRIES):
        least_small = min(least_small, cpu_seconds(small))
        least_large = min(least_large, cpu_seconds(large))
        ratio = least_large / max(least_small, _FLOOR_SECONDS)
        if ratio < LINEAR:
            break
    return ratio
