"""The laws as functions: each takes a method and raises AssertionError if the law fails.

Laws compare updates `b @ a` in float64, never factors, since one update has many factorisations.
They call the method's own function on members that meet its requirements. The rank is chosen; other
options keep their defaults, except that laws about lossless methods set density 1.
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


def sample(method: MergeMethod, d_in: int = D_IN, d_out: int = D_OUT) -> Stack:
    """Return three adapters of different ranks, scales and signs that meet the requirements."""
    ranks = [max(RANKS)] * len(RANKS) if method.requirements.equal_ranks else RANKS
    weights = [abs(w) if method.requirements.positive_weights else w for w in WEIGHTS]
    factors = [
        random_factors(seed, rank, d_in, d_out, scale=0.5 + seed) for seed, rank in enumerate(ranks)
    ]
    count = method.requirements.members
    return Stack("model.m", tuple(factors[:count]), tuple(weights[:count]))


def apply(
    method: MergeMethod,
    factors: Sequence[Factors],
    weights: Sequence[float],
    rank: int,
    **options: object,
) -> Merged:
    """Return the method's result for one module, with `rank` where it has that option."""
    if "rank" in method.parameters:
        options["rank"] = rank
    bound = method.bind(options)
    del bound["scale"]  # of `run`, not of the function
    return method.function(Stack("model.m", tuple(factors), tuple(weights)), **bound)


def whole(method: MergeMethod) -> dict[str, object]:
    """Return the options with which the method drops nothing."""
    return {"density": 1.0} if "density" in method.parameters else {}


def update(f: Factors) -> Tensor:
    """Return the dense update, (d_out, d_in) float64."""
    return f.b.double() @ f.a.double() * f.scale


def close(expected: Tensor, actual: Tensor, *, within: float = 2e-5) -> None:
    """Assert equality up to float32 rounding, relative to the largest entry."""
    torch.testing.assert_close(
        actual, expected, rtol=0.0, atol=within * max(float(expected.abs().max()), 1e-6)
    )


def same(method: MergeMethod, first: Stack, second: Stack, *, factor: float = 1.0) -> None:
    """Assert that two stacks give one update, truncated and in full, the second times `factor`."""
    for rank in (3, sum(RANKS)):
        expected = apply(method, first.members, first.weights, rank).factors
        actual = apply(method, second.members, second.weights, rank).factors
        close(factor * update(expected), update(actual))


def identity(method: MergeMethod) -> None:
    """The merge of one ingredient at weight 1, with enough rank, is that ingredient."""
    f = random_factors(0, 5)
    close(update(f), update(apply(method, [f], [1.0], rank=5, **whole(method)).factors))


def weights(method: MergeMethod) -> None:
    """Multiplying every weight by 3 multiplies the update by 3."""
    given = sample(method)
    thrice = Stack(given.module, given.members, tuple(3 * w for w in given.weights))
    same(method, given, thrice, factor=3.0)


def ingredient_order(method: MergeMethod) -> None:
    """The order of the ingredients does not matter."""
    given = sample(method)
    same(method, given, Stack(given.module, given.members[::-1], given.weights[::-1]))


def rank_order(method: MergeMethod) -> None:
    """The order of MSUs within each adapter does not matter."""
    given = sample(method)
    generator = torch.Generator().manual_seed(11)
    orders = [torch.randperm(rank, generator=generator) for rank in given.ranks]
    shuffled = tuple(
        Factors(f.a[order], f.b[:, order], f.scale)
        for f, order in zip(given.members, orders, strict=True)
    )
    same(method, given, Stack(given.module, shuffled, given.weights))


def reparameterisation(method: MergeMethod) -> None:
    """Replacing (a, b) by (G a, b G⁻¹) changes neither the update nor the merge."""
    given = sample(method)
    generator = torch.Generator().manual_seed(7)
    gauged = []
    for f in given.members:
        g = torch.eye(f.rank) + 0.3 * torch.randn(f.rank, f.rank, generator=generator)
        gauged.append(Factors(g @ f.a, f.b @ torch.linalg.inv(g), f.scale))
    same(method, given, Stack(given.module, tuple(gauged), given.weights))


def copies(method: MergeMethod) -> None:
    """A merge of T copies is the adapter itself: at weight 1/T for sums, at weight 1 for means."""
    f = random_factors(0, 5)
    for wanted in (2, 5):
        count = min(wanted, method.requirements.members or wanted)
        weight = 1.0 if method.copies == "mean" else 1 / count
        merged = apply(method, [f] * count, [weight] * count, rank=5, **whole(method))
        close(update(f), update(merged.factors))


def rank_bound(method: MergeMethod) -> None:
    """The result has the announced rank, shapes, dtype and scale."""
    given = sample(method)
    for rank in (1, 3, sum(RANKS), 50):
        result = apply(method, given.members, given.weights, rank).factors
        options = {"rank": rank} if "rank" in method.parameters else {}
        k = method.result_rank(given.ranks, options)
        assert ((k, D_IN), (D_OUT, k)) == (tuple(result.a.shape), tuple(result.b.shape))
        assert (torch.float32, torch.float32, 1.0) == (
            result.a.dtype, result.b.dtype, result.scale,
        )  # fmt: skip


def inputs_untouched(method: MergeMethod) -> None:
    """A method changes none of its inputs."""
    given = sample(method)
    copied = [(f.a.clone(), f.b.clone()) for f in given.members]
    apply(method, given.members, given.weights, rank=3)
    assert all(
        torch.equal(a, f.a) and torch.equal(b, f.b)
        for f, (a, b) in zip(given.members, copied, strict=True)
    )


def repeatable(method: MergeMethod) -> None:
    """The same inputs give the same bits, whatever draws happened before."""
    given = sample(method)
    first = apply(method, given.members, given.weights, rank=3).factors
    torch.rand(10)
    apply(method, [random_factors(9, 4)], [1.0], rank=2)
    again = apply(method, given.members, given.weights, rank=3).factors
    assert torch.equal(first.a, again.a)
    assert torch.equal(first.b, again.b)


def thread_count(method: MergeMethod) -> None:
    """Merges on one thread and on two give the same update to 1e-6."""
    given = sample(method, 256, 192)
    before = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(update(apply(method, given.members, given.weights, rank=8).factors))
    finally:
        torch.set_num_threads(before)
    close(found[0], found[1], within=1e-6)


def finite(method: MergeMethod) -> None:
    """Results are finite in every edge case: rank 1, one entry, zero and tiny adapters, opposites,
    both ends of the density's range.
    """
    zero = Factors(torch.zeros(3, D_IN), torch.zeros(D_OUT, 3))
    point = Factors(torch.ones(1, 1), torch.full((1, 1), -2.0))
    no_b = Factors(torch.ones(3, D_IN), torch.zeros(D_OUT, 3), 2.0)
    f = random_factors(0, 1)
    tiny = Factors(f.a * 1e-30, f.b * 1e-30)
    twins = Factors(torch.ones(3, D_IN), torch.ones(D_OUT, 3))
    corners = [[zero], [zero, f], [f, zero], [point], [point] * 4, [no_b, no_b], [f], [f, tiny],
               [tiny], [twins, twins], [f, Factors(-f.a, f.b, f.scale)]]  # fmt: skip
    signs = (1.0,) if method.requirements.positive_weights else (1.0, -1.0)
    for corner in corners:
        members = corner[: method.requirements.members]
        if method.requirements.equal_ranks and len({member.rank for member in members}) > 1:
            continue
        for sign in signs:
            _finite(method, members, [sign] * len(members))


def _finite(method: MergeMethod, members: Sequence[Factors], weights: Sequence[float]) -> None:
    ends = [{"density": end} for end in (1e-9, 1.0)] if "density" in method.parameters else [{}]
    for rank in (1, 2, 8):
        for options in ends:
            merged = apply(method, members, weights, rank, **options)
            assert torch.isfinite(merged.factors.a).all()
            assert torch.isfinite(merged.factors.b).all()
            assert merged.energy is None or 0.0 <= merged.energy <= 1.0 + 1e-9


def modest(method: MergeMethod) -> None:
    """Directions that contain only rounding errors are left empty: the factors of a merge of twins
    are no larger than those of one adapter.
    """
    for seed in range(40):
        f = random_factors(seed, 1 + seed % 5, 6 + seed % 9, 4 + seed % 10)
        count = min(2, method.requirements.members or 2)
        result = apply(method, [f] * count, [1.0] * count, rank=50).factors
        largest = f.scale * max(float(f.a.abs().max()), float(f.b.abs().max()), 1.0)
        assert float(torch.maximum(result.a.abs().max(), result.b.abs().max())) < 20 * largest


def unbiased(method: MergeMethod) -> None:
    """The mean of a random prune at density 1/2 over seeds is the update itself."""
    f = random_factors(0, 6, 6, 5)  # at full rank truncation loses nothing
    draws = 400
    total = torch.zeros(5, 6, dtype=torch.float64)
    for seed in range(draws):
        total += update(apply(method, [f], [1.0], 6, density=0.5, seed=seed).factors)
    # Inverse keep probabilities leave a relative error near 1/√400; without them it is a half.
    assert float((total / draws - update(f)).norm() / update(f).norm()) < 0.15


LAWS: dict[str, Law] = {
    law.__name__: law
    for law in (
        identity, weights, ingredient_order, rank_order, reparameterisation, copies, rank_bound,
        inputs_untouched, repeatable, thread_count, finite, modest, unbiased,
    )
}  # fmt: skip


def laws_of(method: MergeMethod) -> list[str]:
    """Return the laws that apply to the method: `unbiased` applies only to random prunes."""
    return [law for law in LAWS if law != "unbiased" or method.random_prune]
