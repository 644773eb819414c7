"""How much memory a job will take at least, before anything is loaded.

Counted: the base's weights, the frozen factors, the fresh LoRA with its gradients and AdamW's two
moments, what a pass keeps for the way back, and the logits. Not counted: what allocators waste.
Arithmetic on shapes alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Per token and layer, in widths of the model: what a block keeps for the backward pass.
_KEPT_WIDTHS = 24
# Logits, their float32 copy, the gradient of both.
_LOGIT_COPIES = 4
# Weights, gradients, two moments.
_TRAINED_COPIES = 4


class MemoryTooSmall(Exception):
    """A job needs more memory than there is; nothing was loaded."""

    def __init__(self, needed: int, free: int) -> None:
        self.needed, self.free = needed, free
        super().__init__(
            f"the job needs at least {needed / 2**30:.2f} GiB and {free / 2**30:.2f} GiB are free: "
            "ask for a smaller k, shorter examples or a smaller batch_size"
        )


@dataclass(frozen=True, slots=True)
class Sizes:
    """What decides how much memory a job takes.

    Attributes:
        base_bytes: of the base's weights as they are loaded.
        number_bytes: of one number of the base and of the frozen factors: 4 or 2.
        layers, width, vocabulary: of the base.
        tokens: in the largest pass, padding included.
        modules: (d_in, d_out) of the modules that a fresh LoRA has.
        fresh_rank: of the fresh LoRA; 0 without one.
        ranks: per module, the summed rank of the frozen members.
    """

    base_bytes: int
    number_bytes: int
    layers: int
    width: int
    vocabulary: int
    tokens: int
    modules: Mapping[str, tuple[int, int]]
    fresh_rank: int
    ranks: Mapping[str, int]


def estimate(sizes: Sizes) -> int:
    """Return the bytes that a job takes at least."""
    widths = {name: sum(shape) for name, shape in sizes.modules.items()}
    frozen = sum(rank * widths.get(name, 0) for name, rank in sizes.ranks.items())
    fresh = sizes.fresh_rank * sum(widths.values()) * 4 * _TRAINED_COPIES
    kept = sizes.tokens * sizes.layers * sizes.width * _KEPT_WIDTHS
    inner = sizes.tokens * max(sum(sizes.ranks.values()), sizes.fresh_rank * len(widths))
    logits = sizes.tokens * sizes.vocabulary * 4 * _LOGIT_COPIES
    return sizes.base_bytes + (frozen + kept + inner) * sizes.number_bytes + fresh + logits


def most_ranks(
    members: Sequence[Mapping[str, int]], k: int, fresh: Mapping[str, int]
) -> dict[str, int]:
    """Return the largest summed rank per module of any k members, a fresh LoRA's added.

    `members` gives each one's rank by module: which ones will be chosen is not known yet.
    """
    names = {name for member in members for name in member} | fresh.keys()
    return {
        name: fresh.get(name, 0)
        + sum(sorted((member.get(name, 0) for member in members), reverse=True)[:k])
        for name in sorted(names)
    }


def check_memory(sizes: Sizes, free: int) -> int:
    """Return the estimate. Raises MemoryTooSmall where it does not fit."""
    needed = estimate(sizes)
    if needed > free:
        raise MemoryTooSmall(needed, free)
    return needed
