"""The laws as functions: each takes a method and raises AssertionError where it does not hold.

Laws compare updates `b @ a` in float64, never factors, since one update has many factorisations.
They go through the method's own function; options other than the rank stay at their defaults.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from merge.factors import Factors, Merged, Stack
from merge.methods import MergeMethod

Law = Callable[[MergeMethod], None]
D_IN, D_OUT = 24, 18
RANKS = (4, 2, 6)
WEIGHTS = (1.0, -0.5, 0.3)


def random_factors(
    seed: int, rank: int, d_in: int = D_IN, d_out: int = D_OUT, scale: float = 1.5
) -> Factors:
    """Return a random adapter's factors for one module."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(rank, d_in, generator=generator)
    return Factors(a, torch.randn(d_out, rank, generator=generator), scale)


def members() -> list[Factors]:
    """Return three adapters of different ranks and scales."""
    return [random_factors(seed, rank, scale=0.5 + seed) for seed, rank in enumerate(RANKS)]


def apply(
    method: MergeMethod, factors: Sequence[Factors], weights: Sequence[float], rank: int
) -> Merged:
    """Return the method's result for one module, with `rank` where it has that option."""
    options = method.bind({"rank": rank} if method.auto_rank else {})
    del options["scale"]  # of `run`, not of the function
    return method.function(Stack("model.m", tuple(factors), tuple(weights)), **options)


def update(f: Factors) -> Tensor:
    """Return the dense update, (d_out, d_in) float64."""
    return f.b.double() @ f.a.double() * f.scale


def close(expected: Tensor, actual: Tensor) -> None:
    """Assert equality up to float32 rounding, relative to the largest entry."""
    torch.testing.assert_close(
        actual, expected, rtol=0.0, atol=2e-5 * max(float(expected.abs().max()), 1e-6)
    )


def identity(method: MergeMethod) -> None:
    """One ingredient at weight 1, with rank enough, comes back as it was."""
    f = random_factors(0, 5)
    close(update(f), update(apply(method, [f], [1.0], rank=5).factors))


def weights(method: MergeMethod) -> None:
    """Multiplying every weight by 3 multiplies the update by 3."""
    for rank in (3, sum(RANKS)):
        once = update(apply(method, members(), WEIGHTS, rank).factors)
        thrice = update(apply(method, members(), [3 * w for w in WEIGHTS], rank).factors)
        close(3 * once, thrice)


def ingredient_order(method: MergeMethod) -> None:
    """The order of the ingredients does not matter."""
    for rank in (3, sum(RANKS)):
        forward = apply(method, members(), WEIGHTS, rank).factors
        backward = apply(method, members()[::-1], WEIGHTS[::-1], rank).factors
        close(update(forward), update(backward))


def rank_order(method: MergeMethod) -> None:
    """The order of an adapter's MSUs does not matter."""
    shuffled = [Factors(f.a.flip(0), f.b.flip(1), f.scale) for f in members()]
    for rank in (3, sum(RANKS)):
        expected = apply(method, members(), WEIGHTS, rank).factors
        close(update(expected), update(apply(method, shuffled, WEIGHTS, rank).factors))


def reparameterisation(method: MergeMethod) -> None:
    """(a, b) → (G a, b G⁻¹) leaves an update as it is, and so the merge."""
    generator = torch.Generator().manual_seed(7)
    gauged = []
    for f in members():
        g = torch.eye(f.rank) + 0.3 * torch.randn(f.rank, f.rank, generator=generator)
        gauged.append(Factors(g @ f.a, f.b @ torch.linalg.inv(g), f.scale))
    for rank in (3, sum(RANKS)):
        expected = apply(method, members(), WEIGHTS, rank).factors
        close(update(expected), update(apply(method, gauged, WEIGHTS, rank).factors))


def copies(method: MergeMethod) -> None:
    """T copies of one adapter at weight 1/T give that adapter."""
    f = random_factors(0, 5)
    for count in (2, 5):
        merged = apply(method, [f] * count, [1 / count] * count, rank=5)
        close(update(f), update(merged.factors))


def rank_bound(method: MergeMethod) -> None:
    """The result has the announced rank, shapes, dtype and scale."""
    for rank in (1, 3, sum(RANKS), 50):
        result = apply(method, members(), WEIGHTS, rank).factors
        k = method.result_rank(RANKS, {"rank": rank} if method.auto_rank else {})
        assert ((k, D_IN), (D_OUT, k)) == (tuple(result.a.shape), tuple(result.b.shape))
        assert (torch.float32, torch.float32, 1.0) == (
            result.a.dtype, result.b.dtype, result.scale,
        )  # fmt: skip


def inputs_untouched(method: MergeMethod) -> None:
    """A method changes none of its inputs."""
    given = members()
    copied = [(f.a.clone(), f.b.clone()) for f in given]
    apply(method, given, WEIGHTS, rank=3)
    assert all(
        torch.equal(a, f.a) and torch.equal(b, f.b) for f, (a, b) in zip(given, copied, strict=True)
    )


def repeatable(method: MergeMethod) -> None:
    """The same inputs give the same bits, whatever was drawn before."""
    first = apply(method, members(), WEIGHTS, rank=3).factors
    torch.rand(10)
    apply(method, [random_factors(9, 4)], [1.0], rank=2)
    again = apply(method, members(), WEIGHTS, rank=3).factors
    assert torch.equal(first.a, again.a)
    assert torch.equal(first.b, again.b)


def finite(method: MergeMethod) -> None:
    """Results are finite at every corner."""
    zero = Factors(torch.zeros(3, D_IN), torch.zeros(D_OUT, 3))
    point = Factors(torch.ones(1, 1), torch.full((1, 1), -2.0))
    no_b = Factors(torch.ones(3, D_IN), torch.zeros(D_OUT, 3), 2.0)
    f = random_factors(0, 1)
    tiny = Factors(f.a * 1e-30, f.b * 1e-30)
    twins = Factors(torch.ones(3, D_IN), torch.ones(D_OUT, 3))
    corners = [[zero], [zero, f], [point], [point] * 4, [no_b, no_b], [f], [f, tiny], [tiny],
               [twins, twins], [f, Factors(-f.a, f.b, f.scale)]]  # fmt: skip
    for corner in corners:
        for rank in (1, 2, 8):
            for signs in (1.0, -1.0):
                merged = apply(method, corner, [signs] * len(corner), rank)
                assert torch.isfinite(merged.factors.a).all()
                assert torch.isfinite(merged.factors.b).all()
                assert merged.energy is None or 0.0 <= merged.energy <= 1.0 + 1e-9


LAWS: dict[str, Law] = {
    law.__name__: law
    for law in (
        identity, weights, ingredient_order, rank_order, reparameterisation, copies, rank_bound,
        inputs_untouched, repeatable, finite,
    )
}  # fmt: skip
