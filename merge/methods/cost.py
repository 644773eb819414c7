"""An estimate of what a merge takes, from shapes alone: bytes at its peak, and seconds.

Covered: an upper bound of memory, for the worst inputs of a shape (near-copies, which need float64
and QR), and the work of a merge in operations. Not covered: the interpreter, and what other
processes leave of the machine.
"""

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from merge.dense import TILE_ENTRIES
from merge.methods.options import Value
from merge.prune import PARTITIONED

Work = Literal["sum", "stacked", "noise", "cores", "tucker", "entries", "units"]
"""The kind of a method's work on a module: what `estimate` knows of it.

    sum      the best approximation of a weighted sum (`linalg.truncated_sum`)
    stacked  factors side by side, or added
    noise    a sum of as many factors, drawn anew
    cores    matrices of the total rank (`basis.coordinates`)
    tucker   one such matrix per member, several times over
    entries  dense updates in tiles; another `basis` makes it `cores`
    units    clusters of MSUs
"""

# Of inputs, float32, that a process takes at once: one layer of an 8B model with five adapters of
# rank 16. With larger groups one process would work alone at the end.
GROUP_BYTES = 2**25
# Bytes of a number.
_F16, _F32, _F64 = 2, 4, 8
# Operations a second and thread, more than most servers' cores reach: an estimate refuses what
# cannot be done in time, not what may be slow.
_PRODUCTS, _ENTRIES = 2e10, 5e8
# A tile and the masks, magnitudes and draws that a step makes of it.
_TILE_COPIES = 8
# Histograms of the exact order statistics: 2¹⁶ counters of 8 bytes, a few at a time.
_HISTOGRAM = 2**16 * 8 * 4
# Readings of all tiles: two histograms, and the range finder's three.
_READINGS = 6
_LLOYD_STEPS = 20  # the usual number; the bound is 300


class Shape(NamedTuple):
    """One module of a merge."""

    ranks: tuple[int, ...]  # of the members
    d_in: int
    d_out: int
    rank: int  # of the result


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a merge takes: bytes at most, and seconds at least."""

    nbytes: int
    seconds: float


class _Cost(NamedTuple):
    nbytes: float
    products: float  # multiplications in matrix products and decompositions
    entries: float = 0.0  # of dense updates, over all readings

    def plus(self, other: "_Cost") -> "_Cost":
        return _Cost(*(one + two for one, two in zip(self, other, strict=True)))


def groups_of(shapes: Sequence[Shape]) -> list[range]:
    """Return the places of the modules that are merged together, in order.

    A group has modules next to each other of at most `GROUP_BYTES` of inputs, or one larger module.
    """
    groups, begin, nbytes = [], 0, 0
    for place, shape in enumerate(shapes):
        nbytes += _F32 * (shape.d_in + shape.d_out) * sum(shape.ranks)
        if nbytes > GROUP_BYTES and place > begin:
            groups.append(range(begin, place))
            begin, nbytes = place, _F32 * (shape.d_in + shape.d_out) * sum(shape.ranks)
    return [*groups, range(begin, len(shapes))]


def estimate(
    work: Work,
    shapes: Iterable[Shape],
    options: Mapping[str, Value],
    *,
    threads: int,
    grouped: bool = False,
) -> Estimate:
    """Return what the merge of modules of these shapes takes, `threads` at a time.

    `grouped` says that the method holds the modules of a group in memory at once.
    """
    shapes = list(shapes)
    costs = [_module(work, shape, options) for shape in shapes]
    peaks = [cost.nbytes for cost in costs]
    if grouped:
        peaks = [sum(peaks[place] for place in group) for group in groups_of(shapes)]
    nbytes = sum(heapq.nlargest(threads, peaks))
    seconds = sum(cost.products / _PRODUCTS + cost.entries / _ENTRIES for cost in costs)
    return Estimate(int(nbytes), seconds / threads)


def _module(work: Work, shape: Shape, options: Mapping[str, Value]) -> _Cost:
    total, long = sum(shape.ranks), shape.d_in + shape.d_out
    read = _F32 * long * (total + max(shape.ranks)) + _F16 * long * total
    # The result as computed, cast, and read back; where MSUs cancel, in float64 with its QR.
    written = (3 * _F32 + 4 * _F64) * long * shape.rank + 4 * _F64 * shape.rank**2
    cost = _Cost(read + written, 2 * long * (total + shape.rank) ** 2)
    if work == "entries" and options.get("basis") == "dense":
        return cost.plus(_entries(shape))
    if work == "units":
        return cost.plus(_units(shape, options))
    if work in ("sum", "noise"):
        drawn = _F32 * long * total + _F64 * max(shape.ranks) * max(shape.d_in, shape.d_out)
        cost = cost.plus(_sum(total, shape.d_in, shape.d_out))
        return cost.plus(_Cost(drawn, 0.0)) if work == "noise" else cost
    if work == "stacked":
        return cost.plus(_Cost(_F32 * total * long + 8 * _F64 * total**2, 0.0))
    return cost.plus(_cores(work, shape, options))


def _sum(total: int, d_in: int, d_out: int) -> _Cost:
    """Return the cost of `truncated_sum` of `total` MSUs, by its safest way."""
    long = d_in + d_out
    return _Cost(4 * _F64 * long * total + 12 * _F64 * total**2, 8 * long * total**2)


def _cores(work: Work, shape: Shape, options: Mapping[str, Value]) -> _Cost:
    total, count, long = sum(shape.ranks), len(shape.ranks), shape.d_in + shape.d_out
    copies = 6 * count if work == "tucker" else count + 16
    nbytes = 2 * _F64 * long * total + copies * _F64 * total**2
    sweeps = 20 * count if work == "tucker" else count
    cost = _Cost(nbytes, 4 * long * total**2 + (sweeps + 60) * total**3)
    if work == "cores" and options.get("basis") != "knots":
        tiles = _tiles(count, total, total)
    elif work == "cores":
        tiles = _tiles(count, total, shape.d_in)
        cost = cost.plus(_sum(total, shape.d_in, shape.d_out))
    else:
        tiles = _tiles(count, total, total)
    return cost.plus(tiles)


def _tiles(count: int, rows: int, cols: int) -> _Cost:
    tile = min(max(TILE_ENTRIES, count * cols), count * rows * cols)
    # The merged matrix of thin blocks is kept whole.
    nbytes = _TILE_COPIES * _F32 * tile + _selection(count, rows * cols) + 2 * _F32 * rows * cols
    return _Cost(nbytes, 0.0, _READINGS * count * rows * cols)


def _selection(count: int, entries: int) -> int:
    """Return the bytes of `prune.largest` on `count` matrices of so many entries."""
    if count * entries <= PARTITIONED:
        return _F32 * (count + 1) * entries
    return max(_HISTOGRAM * count, _F32 * PARTITIONED)


def _entries(shape: Shape) -> _Cost:
    total, count, long = sum(shape.ranks), len(shape.ranks), shape.d_in + shape.d_out
    tile = min(max(TILE_ENTRIES, count * shape.d_in), count * shape.d_in * shape.d_out)
    nbytes = _F32 * long * total + _TILE_COPIES * _F32 * tile
    nbytes += _selection(count, shape.d_in * shape.d_out)
    readings = _READINGS * count * shape.d_in * shape.d_out
    width = 2 * (total + 8)
    if width >= min(shape.d_in, shape.d_out):  # the whole matrix, which is decomposed
        thin = min(shape.d_in, shape.d_out)
        whole = _Cost(4 * _F32 * shape.d_in * shape.d_out, 0.0)
        finder = whole.plus(_sum(thin, shape.d_in, shape.d_out))
    else:
        basis = (6 * _F32 + 3 * _F64) * shape.d_in * width + _F32 * shape.d_out * width
        finder = _Cost(basis, 6 * shape.d_in * shape.d_out * width)
        finder = finder.plus(_sum(width, shape.d_in, shape.d_out))
    return _Cost(nbytes, readings * max(shape.ranks), readings).plus(finder)


def _units(shape: Shape, options: Mapping[str, Value]) -> _Cost:
    total, long = sum(shape.ranks), shape.d_in + shape.d_out
    restarts, candidates = int(options.get("n_init") or 1), 2 + int(math.log(shape.rank))
    shares = restarts * total * shape.rank
    seeding = 3 * _F64 * restarts * candidates * total
    nbytes: float = 8 * _F64 * shares + seeding + 8 * _F64 * total**2
    if options.get("canonical"):
        nbytes += _sum(max(shape.ranks), shape.d_in, shape.d_out).nbytes + 2 * _F32 * long * total
    products = shares * total * _LLOYD_STEPS + restarts * candidates * total * shape.rank
    return _Cost(nbytes + _F32 * long * total, products)
