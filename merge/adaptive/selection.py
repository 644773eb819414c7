"""Selection of the adapters to merge: by evaluation, weights, text, or at random.

`evaluation` is the final choice of arXiv 2602.12323 (section 3; accuracy of each alone on the
examples), except that it looks at the training examples only: the paper's release also selects on
the validation examples, which its figures are then measured on. `random` is its control.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from merge.adaptive.options import Selection
from merge.adaptive.pool import MemberScore, PoolMember

Evaluate = Callable[[PoolMember], MemberScore]


class NoComparison(ValueError):
    """A pool cannot be ordered by the requested selection: data for it is missing."""


class Chosen(NamedTuple):
    """A member of a pool with the score that it was chosen by; larger is better."""

    member: PoolMember
    score: float


def select(
    pool: Sequence[PoolMember],
    k: int,
    how: Selection,
    *,
    seed: int,
    evaluate: Evaluate,
    similarity: Callable[[PoolMember], float],
) -> tuple[Chosen, ...]:
    """Return the best k of a pool, or all of a smaller one, best first.

    Args:
        pool: in any order; the result does not depend on it.
        k: at least 1.
        how: by `evaluation` (accuracy, then loss), `weights`, `text`, or `random`.
        seed: of `random`.
        evaluate: returns a member's score on the training examples; called for `evaluation` alone.
        similarity: cosine of an adapter's update to the target's, for `weights`.

    Raises:
        NoComparison: for `text`, if a member's text was not compared with the examples.
    """
    # By digest first: sorts are stable, so ties do not depend on the order of the pool.
    ordered = sorted(pool, key=lambda member: member.digest)
    match how:
        case "random":
            order = np.random.default_rng(seed).permutation(len(ordered))
            return tuple(Chosen(ordered[at], 0.0) for at in order[:k])
        case "evaluation":
            scores = {member.digest: evaluate(member) for member in ordered}
            ordered.sort(key=lambda m: (-scores[m.digest].accuracy, scores[m.digest].loss))
            return tuple(Chosen(m, scores[m.digest].accuracy) for m in ordered[:k])
        case "weights":
            return _highest(ordered, k, similarity)
        case "text":
            return _highest(ordered, k, text_similarity)


def _highest(
    pool: Sequence[PoolMember], k: int, score: Callable[[PoolMember], float]
) -> tuple[Chosen, ...]:
    chosen = [Chosen(member, score(member)) for member in pool]
    return tuple(sorted(chosen, key=lambda choice: -choice.score)[:k])


def text_similarity(member: PoolMember) -> float:
    """Return a member's `text_similarity`. Raises NoComparison: it was not computed."""
    if member.text_similarity is None:
        raise NoComparison(
            f"selection text: the text of {member.reference} was not compared with the examples: "
            "choose evaluation, weights or random"
        )
    return member.text_similarity


def cosine(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Return the cosine of two sketches; 0 where either is zero."""
    lengths = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
    return float(ours @ theirs) / lengths if lengths else 0.0
