"""Thin bases: orthonormal, isometric, and sound where members depend on each other."""

import pytest
import torch
from torch import Tensor

from merge.basis import coordinates, core, knots
from merge.dense import Updates
from merge.factors import Factors, Stack
from tests.laws.laws import random_factors, update


def stack_of(*members: Factors, weights: tuple[float, ...] | None = None) -> Stack:
    """Return a stack; weights are 1 unless given."""
    return Stack("m", members, weights or (1.0,) * len(members))


def some_stack() -> Stack:
    """Return three adapters of mixed ranks, scales and signs."""
    members = (random_factors(i, r, 40, 30, scale=0.5 + i) for i, r in enumerate((4, 2, 6)))
    return stack_of(*members, weights=(1.0, -0.5, 0.3))


def weighted(stack: Stack) -> list[Tensor]:
    """Return the dense weighted updates in the stack's order."""
    return [w * update(f) for w, f in zip(stack.weights, stack.members, strict=True)]


def test_bases_are_orthonormal_and_cores_are_the_updates() -> None:
    """Bases are orthonormal, and size · (b left) core (right a) equals each weighted update."""
    stack = some_stack()
    at = coordinates(stack)
    left, right = at.members.b.double() @ at.left, at.right @ at.members.a.double()

    for basis in (left.mT @ left, right @ right.mT):
        torch.testing.assert_close(basis, torch.eye(12).double(), atol=2e-5, rtol=0.0)
    for i, x in zip(at.order, at.cores, strict=True):
        expected = weighted(stack)[i]
        torch.testing.assert_close(at.size * left @ x @ right, expected, atol=1e-5, rtol=0.0)
    assert max(float(x.norm()) for x in at.cores) == pytest.approx(1.0)


@pytest.mark.parametrize("angle", [1e-1, 1e-2, 1e-4])
def test_nearly_dependent_members_are_taken_with_care(angle: float) -> None:
    """Members that differ by a small angle have exact cores, and bases orthonormal to 1e-6."""
    f, g = random_factors(0, 4, 4000, 3000), random_factors(1, 4, 4000, 3000)
    near = Factors(f.a + angle * g.a, f.b + angle * g.b, f.scale)
    stack = stack_of(f, near)

    at = coordinates(stack)

    assert at.exact
    assert (8, 8) == tuple(at.cores[0].shape)
    left = at.members.b.double() @ at.left
    torch.testing.assert_close(left.mT @ left, torch.eye(8).double(), atol=1e-6, rtol=0.0)
    difference = at.size * (at.cores[0] - at.cores[1]).norm()
    expected = (update(f) - update(near)).norm()
    assert float(difference) == pytest.approx(float(expected), rel=1e-5)
    assert not coordinates(stack_of(f, g)).exact


def test_svd_is_the_cores() -> None:
    """Each member's singular triplets are in descending order and multiply to its core."""
    at = coordinates(some_stack())

    for (u, sigma, v), x in zip(at.svd(), at.cores, strict=True):
        torch.testing.assert_close(u * sigma @ v, x)
        assert sigma.tolist() == sorted(sigma.tolist(), reverse=True)


def test_lift_is_exact_where_the_rank_allows() -> None:
    """A lifted core equals its update; a smaller rank keeps the energy that it reports."""
    stack = some_stack()
    at = coordinates(stack)
    expected = sum(weighted(stack))
    assert isinstance(expected, Tensor)

    whole, cut = (at.lift(sum(at.cores), rank=rank) for rank in (12, 3))  # type: ignore[arg-type]

    torch.testing.assert_close(update(whole.factors), expected, atol=1e-4, rtol=1e-5)
    assert whole.energy == pytest.approx(1.0)
    kept = torch.linalg.svdvals(expected).square()
    assert cut.energy == pytest.approx(float(kept[:3].sum() / kept.sum()), rel=1e-6)
    assert cut.mix is not None
    rows = cut.mix.left @ at.members.a.double()
    torch.testing.assert_close(rows.float(), cut.factors.a, atol=1e-6, rtol=1e-5)


def test_missing_directions_are_zero_msus() -> None:
    """MSUs beyond the number of directions in the bases are zeros, not noise."""
    f = random_factors(0, 3, 40, 30)
    result = coordinates(stack_of(f, f)).lift(torch.eye(3, dtype=torch.float64), rank=6)

    assert 6 == result.factors.rank
    assert not result.factors.a[3:].any()
    assert not result.factors.b[:, 3:].any()


def test_dependent_members_share_their_directions() -> None:
    """Copies of an adapter, in any factorisation, span the same directions as one of them."""
    f = random_factors(0, 4, 40, 30)
    g = torch.eye(4) + 0.3 * torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
    gauged = Factors(g @ f.a, f.b @ torch.linalg.inv(g), f.scale)

    at = coordinates(stack_of(f, gauged, f, weights=(1.0, 2.0, -1.0)))

    assert (4, 4) == tuple(at.cores[0].shape)


@pytest.mark.parametrize("size", [1e-30, 1e18])
def test_sizes_do_not_matter(size: float) -> None:
    """Tiny and huge factors have the same bases and cores; only the size differs."""
    stack = some_stack()
    sized = stack_of(
        *(Factors(f.a * size, f.b * size, f.scale) for f in stack.members), weights=stack.weights
    )
    one, other = coordinates(stack), coordinates(sized)

    assert other.size == pytest.approx(one.size * size**2, rel=1e-5)
    for x, y in zip(one.svd(), other.svd(), strict=True):
        torch.testing.assert_close(x[1], y[1], atol=1e-6, rtol=1e-5)


def test_all_zero_is_zero() -> None:
    """A stack of zero adapters has one direction, which is zero, and lifts to zero."""
    zero = Factors(torch.zeros(2, 24), torch.zeros(18, 2))
    at = coordinates(stack_of(zero, zero))

    result = at.lift(at.cores[0], rank=3)

    assert not update(result.factors).any()
    assert result.energy == 1.0


@pytest.mark.parametrize("basis", [knots, core])
def test_blocks_come_back_as_the_updates(basis: object) -> None:
    """Both thin bases represent the updates exactly: the sum of the blocks lifts to their sum."""
    stack = some_stack()
    frame = basis(stack)  # type: ignore[operator]  # a table
    blocks = torch.cat(list(Updates(frame.blocks)), dim=1)
    expected = sum(weighted(stack))
    assert isinstance(expected, Tensor)

    result = frame.lift(blocks.sum(0), 12)

    torch.testing.assert_close(update(result.factors), expected, atol=1e-4, rtol=1e-5)
    assert 12 == result.factors.rank


def test_knots_blocks_hold_the_right_factors() -> None:
    """The rows of the concatenated blocks are orthogonal, in descending length: they are ΣVᵀ."""
    frame = knots(some_stack())
    rows = torch.cat(list(torch.cat(list(Updates(frame.blocks)), dim=1)), dim=1).double()
    gram = rows @ rows.mT

    torch.testing.assert_close(gram, gram.diagonal().diag(), atol=1e-6, rtol=0.0)
    assert gram.diagonal().tolist() == sorted(gram.diagonal().tolist(), reverse=True)
