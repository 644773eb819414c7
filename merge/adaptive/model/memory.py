"""A lower bound on the memory of a job, computed from shapes.

Counted: the base's weights; the fresh LoRA in training, or the frozen factors, whichever is more;
the activations that a pass keeps for the backward pass, and its logits. Factors and their inputs
are float32 whatever the base's dtype. Not counted: fragmentation and caches of allocators.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Padded tokens in one pass: its logits are (answers' tokens, vocabulary) float32. A training step's
# pass also keeps the input of every layer, 22 GB for an 8B base.
PASS_TOKENS, STEP_TOKENS = 8192, 2048


_FLOAT = 4
# Bytes per token, layer and width of the model that a pass keeps for the backward pass. Measured on
# Llamas of Llama-3.1-8B's proportions with a fresh LoRA: 108 in float32 and 82 in bfloat16; most of
# them are the LoRA's float32 inputs. The smaller figure keeps the estimate a lower bound.
_KEPT = 82
# Copies of the logits: in a step the logits, log-probabilities and the gradients of both.
_STEP_LOGITS, _MEASURE_LOGITS = 4, 3
# Copies of a trained number: itself, its gradient, Adam's two moments, and the best state's.
_TRAINED_COPIES = 5


class MemoryTooSmall(Exception):
    """A job needs more memory than is free."""

    def __init__(self, needed: int, free: int) -> None:
        self.needed, self.free = needed, free
        super().__init__(
            f"the job needs at least {needed / 2**30:.2f} GiB and {free / 2**30:.2f} GiB are free: "
            "choose a smaller k, a smaller fresh_rank or shorter examples"
        )


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes that the memory of a job depends on.

    Attributes:
        base_bytes: of the base's weights as they are loaded.
        layers, width, vocabulary: of the base.
        step: tokens in the largest pass with gradients, padding included.
        measure: tokens in the largest pass without.
        answers: the share of tokens that are answers'; the others need no logits.
        modules: (d_in, d_out) of the modules that a fresh LoRA has.
        fresh_rank: of the fresh LoRA; 0 without one.
        ranks: per module, the summed rank of the frozen members.
    """

    base_bytes: int
    layers: int
    width: int
    vocabulary: int
    step: int
    measure: int
    answers: float
    modules: Mapping[str, tuple[int, int]]
    fresh_rank: int
    ranks: Mapping[str, int]


def estimate(sizes: Sizes) -> int:
    """Return a lower bound on the bytes that a job takes."""
    widths = {name: sum(shape) for name, shape in sizes.modules.items()}
    rank = sizes.fresh_rank
    fresh = rank * (sum(widths.values()) * _TRAINED_COPIES + sizes.step * len(widths))
    frozen = sum(rank * (widths.get(name, 0) + sizes.step) for name, rank in sizes.ranks.items())
    kept = sizes.step * sizes.layers * sizes.width * _KEPT
    places = max(sizes.step * _STEP_LOGITS, sizes.measure * _MEASURE_LOGITS) * sizes.answers
    logits = int(places) * sizes.vocabulary
    return sizes.base_bytes + kept + (max(fresh, frozen) + logits) * _FLOAT


def least_ranks(
    members: Sequence[Mapping[str, int]], k: int, target: Mapping[str, int]
) -> dict[str, int]:
    """Return the smallest summed rank per module of any k members, the target LoRA's added.

    `members` gives each one's rank by module. Of exactly k members it is their sum.
    """
    names = {name for member in members for name in member} | target.keys()
    return {
        name: target.get(name, 0) + sum(sorted(member.get(name, 0) for member in members)[:k])
        for name in sorted(names)
    }


def check_memory(sizes: Sizes, free: int) -> int:
    """Return the estimate. Raises MemoryTooSmall where it does not fit."""
    needed = estimate(sizes)
    if needed > free:
        raise MemoryTooSmall(needed, free)
    return needed
