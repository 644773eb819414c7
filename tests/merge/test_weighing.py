"""Weighed stacks are correct for any size, order and factorisation."""

import pytest
import torch

from merge.factors import Factors, Stack
from merge.weighing import order_by_content, weigh
from tests.laws.laws import random_factors, update


@pytest.mark.parametrize("weight", [1.0, -0.3, 1e300, 1e-300])
@pytest.mark.parametrize("size", [1.0, 1e-38, 1e30])
@pytest.mark.parametrize("scale", [1.0, -2.5, 1e-40])
def test_size_times_member_is_the_weighted_update(weight: float, size: float, scale: float) -> None:
    """Weights, scales and factors of any size neither overflow nor lose precision."""
    f = random_factors(0, 4)
    given = Factors(f.a * size, f.b * size, scale)

    (member,), common = weigh(Stack("m", (given,), (weight,)))

    assert torch.isfinite(member.a).all()
    assert torch.isfinite(member.b).all()
    direction = update(member) / update(member).norm()
    expected = update(Factors(given.a, given.b, 1.0))
    sign = 1.0 if weight * scale > 0.0 or (weight > 0) == (scale > 0) else -1.0
    torch.testing.assert_close(direction, sign * expected / expected.norm(), atol=1e-6, rtol=0.0)
    if 1e-200 < abs(weight) < 1e200:
        assert common * float(update(member).norm()) == pytest.approx(
            abs(weight) * abs(scale) * float(expected.norm()), rel=1e-6
        )


def test_members_keep_their_proportions() -> None:
    """All members are divided by one size, so their sum times the size is the weighted sum."""
    members = (random_factors(0, 4, scale=3.0), random_factors(1, 2, scale=0.01))
    stack = Stack("m", members, (0.5, -40.0))
    expected = 0.5 * update(members[0]) - 40.0 * update(members[1])

    weighed, size = weigh(stack)

    torch.testing.assert_close(
        size * sum(update(f) for f in weighed), expected, atol=1e-5, rtol=1e-5
    )


def test_a_zero_member_does_not_set_the_size() -> None:
    """A zero adapter with an enormous weight does not cost the others precision."""
    f, zero = random_factors(0, 4), Factors(torch.zeros(2, 24), torch.zeros(18, 2))

    members, size = weigh(Stack("m", (zero, f), (1e300, 1.0)))

    total = size * sum(update(member) for member in members)
    torch.testing.assert_close(total, update(f), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("zero", ["a", "b", "scale"])
def test_one_zero_factor_does_not_set_the_size(zero: str) -> None:
    """A member with a factor or a scale of 0 is zero, however large the rest of it is."""
    f = random_factors(0, 4)
    a, b, scale = (0.0 if part == zero else 1e30 for part in ("a", "b", "scale"))
    large = Factors(f.a * a, f.b * b, scale)

    members, size = weigh(Stack("m", (large, f), (1.0, 1.0)))

    total = size * sum(update(member) for member in members)
    torch.testing.assert_close(total, update(f), atol=1e-5, rtol=1e-5)


def test_nothing_but_zeros() -> None:
    """A stack of zero adapters has size 1 and zero members."""
    zero = Factors(torch.zeros(2, 24), torch.zeros(18, 2))

    members, size = weigh(Stack("m", (zero, zero), (1.0, -1.0)))

    assert size == 1.0
    assert all(not member.b.any() for member in members)


def test_order_is_one_of_content() -> None:
    """The order by content does not depend on how members are listed or factored."""
    members = [random_factors(seed, 3) for seed in range(5)]
    members.append(Factors(-members[0].a, members[0].b, members[0].scale))
    weights = [1.0, 2.0, -1.0, 0.5, 1.0, 1.0]
    expected = [members[i] for i in order_by_content(Stack("m", tuple(members), tuple(weights)))]

    turned = Stack("m", tuple(members[::-1]), tuple(weights[::-1]))
    gauged = Stack(
        "m", tuple(Factors(f.a.flip(0) * 2.0, f.b.flip(1) / 2.0, f.scale) for f in members),
        tuple(weights),
    )  # fmt: skip

    assert expected == [turned.members[i] for i in order_by_content(turned)]
    assert [members.index(f) for f in expected] == order_by_content(gauged)
