"""Selection of members from a pool."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from merge.adaptive.options import Selection
from merge.adaptive.pool import MemberScore, PoolMember
from merge.adaptive.selection import Chosen, NoComparison, cosine, select

POOL = [
    PoolMember(f"{name}@1", name * 64, Path(name), text_similarity=near)
    for name, near in zip("abcde", (0.1, 0.9, 0.5, 0.3, 0.7), strict=True)
]
SCORES = {
    "a": MemberScore(0.5, 2.0), "b": MemberScore(0.0, 1.0), "c": MemberScore(0.5, 1.5),
    "d": MemberScore(0.9, 9.0), "e": MemberScore(0.0, 3.0),
}  # fmt: skip
LIKE = {"a": 0.2, "b": -0.9, "c": 0.8, "d": 0.0, "e": 0.6}


def chosen(how: Selection, k: int = 3, pool: list[PoolMember] = POOL, seed: int = 1) -> str:
    """Return the names of the chosen members, best first."""
    found: tuple[Chosen, ...] = select(
        pool, k, how, seed=seed, evaluate=lambda m: SCORES[m.digest[0]],
        similarity=lambda m: LIKE[m.digest[0]],
    )  # fmt: skip
    return "".join(each.member.digest[0] for each in found)


def test_each_way_has_its_order() -> None:
    """Selection orders by accuracy and then loss, by similarity of updates, or of texts."""
    assert "dca" == chosen("evaluation")
    assert "cea" == chosen("weights")
    assert "bec" == chosen("text")


@pytest.mark.parametrize("how", ["evaluation", "random", "weights", "text"])
def test_the_pools_order_means_nothing(how: Selection) -> None:
    """The pool's order does not change the choice, and a pool smaller than k is chosen whole."""
    assert chosen(how) == chosen(how, pool=POOL[::-1])
    assert set("abcde") == set(chosen(how, k=9))


def test_the_lot_follows_from_the_seed() -> None:
    """Seeds give different draws, and a larger draw with the same seed starts with the smaller."""
    assert len({chosen("random", seed=seed) for seed in range(8)}) > 4
    assert chosen("random", k=5).startswith(chosen("random", k=2))


def test_texts_that_nobody_compared_are_no_order() -> None:
    """Selection by text without similarities is refused with the other ways to select."""
    with pytest.raises(NoComparison, match="choose evaluation, weights or random"):
        chosen("text", pool=[replace(POOL[0], text_similarity=None)])


def test_cosines() -> None:
    """Parallel sketches have cosine 1, and a zero sketch has cosine 0."""
    x = np.array([3.0, 4.0], np.float32)
    assert 1.0 == pytest.approx(cosine(x, 2 * x))
    assert 0.0 == cosine(x, 0 * x)
