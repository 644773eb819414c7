"""`lego`: LoRA-LEGO, clusters of minimal semantic units.

The paper describes the grouping and the two reweightings; the exact formulas (infinity norms,
√(r/k)) are those on which independent implementations agree.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from merge.factors import Factors, Members, Merged, Mix, Stack
from merge.kmeans import kmeans
from merge.linalg import canonical as canonical_form
from merge.methods.method import merge_method
from merge.methods.options import Count, Positive, Rank, Seed
from merge.seeds import generator_for

# MSUs are sorted by this many entries of each half before the first draw. MSUs that agree in all
# of them are copies in practice, whose order changes nothing.
_SORTED_BY = 4
# Rows of a long narrow matrix reduced side by side: (d_out, 80) becomes (d_out / 16, 1280), whose
# reduction runs along contiguous memory.
_FOLD = 16


@merge_method(
    "lego",
    paper="arXiv:2409.16167",
    title="LoRA-LEGO: k-means over minimal semantic units, centroids reweighted",
    differs="weights, which the paper does not have, are relative sample weights (a negative one "
    "negates its MSUs' b); scales enter as √scale on each side; with mixed ranks the "
    "reference rank is the members' mean; the options canonical and balance are weft's own",
    exempt={
        "reparameterisation": "the units are rows of a with columns of b, so another factorisation "
        "of the same update has other units; canonical=true removes the dependence",
        "weights": "weights are relative: multiplying all of them changes nothing; use scale",
    },
    revision=2,
    auto_rank="largest",
    work="units",
)
def lego(
    stack: Stack,
    *,
    rank: Rank,
    seed: Seed = 0,
    n_init: Count = 10,
    parameter_reweighting: bool = True,
    output_reweighting: bool = True,
    reference_rank: Positive | None = None,
    canonical: bool = False,
    balance: bool = False,
) -> Merged:
    """Return k = min(rank, n) centroids of the members' n MSUs (arXiv 2409.16167).

    An MSU is z = [√s a_j, √s b_j]; a centroid is the weighted mean of its cluster. Parameter
    reweighting multiplies it by (weighted mean of |z|_∞) / |centroid|_∞, since a mean is shorter
    than what it averages; output reweighting multiplies b by √(reference_rank / k), since the
    variance of k summed units grows with k. Of one adapter with k < r it is the paper's pruning.

    Args:
        stack: the members; |weight| is the sample weight, its sign multiplies b.
        rank: the number of clusters asked for.
        seed: of the k-means++ draws, together with the module's name.
        n_init: restarts of k-means; the one of least inertia is used.
        parameter_reweighting: whether to scale centroids to their members' mean size.
        output_reweighting: whether to scale the result to the size of one adapter.
        reference_rank: rank r in √(r/k); None means the mean rank of the stack's members.
        canonical: whether to replace each adapter's factors by its singular triplets first, so
            that the result does not depend on the factorisation.
        balance: whether to rescale each MSU to |a_j| = |b_j| first, so that neither half dominates
            the distances.
    """
    members = stack.members
    if canonical:
        members = tuple(map(canonical_form, members))
    units = _Units.of(Members.of(members), stack.weights, balance=balance)
    clustering = kmeans(
        units.gram().float(),  # products of float32 vectors: the dtype tells k-means their rounding
        units.weight,
        min(rank, len(units.weight)),
        n_init=n_init,
        generator=generator_for(seed, stack.module),
    )
    share = torch.nn.functional.one_hot(clustering.labels).double() * units.weight[:, None]
    share = (share / share.sum(0)).mT  # (k, n), rows sum to 1
    mix = units.mix(share)
    a, b = (
        mix.left.to(units.members.a) @ units.members.a,
        units.members.b @ mix.right.to(units.members.b),
    )
    factor = torch.ones(len(share), dtype=torch.float64)  # of both halves
    if parameter_reweighting:
        have = torch.maximum(_by_row(a), _by_column(b))
        # A centroid of opposite units is zero and has no size to restore.
        factor = torch.where(have > 0.0, share @ units.largest() / have, 1.0)
    output = 1.0
    if output_reweighting:
        mean_rank = sum(stack.ranks) / len(stack.ranks)
        output = math.sqrt((mean_rank if reference_rank is None else reference_rank) / len(share))
    of_b = output * factor
    factors = Factors(factor.to(a)[:, None] * a, of_b.to(b) * b)
    return Merged(factors, mix=Mix(factor[:, None] * mix.left, of_b * mix.right, mix.members))


@dataclass(frozen=True, slots=True, eq=False)
class _Units:
    """The MSUs of a stack: z_j = [side_a a_j, side_b b_j], with their sample weights.

    The vectors are (n,) float64 and sorted by content, so that no result depends on the order of
    members or ranks; `order` (n,) holds the members' MSU at each position.
    """

    members: Members
    side_a: Tensor
    side_b: Tensor
    weight: Tensor
    order: Tensor

    @classmethod
    def of(cls, members: Members, weights: Sequence[float], *, balance: bool) -> "_Units":
        """Return the units with √scale on both sides and the weights' signs on b, sorted."""
        side_a, side_b = _sides(members, weights, balance=balance)
        weight = members.spread(map(abs, weights))
        # Bounded from below: a cluster of units whose weights underflow to 0 would have no mass,
        # and its centroid would be 0 / 0.
        weight = (weight / weight.max()).clamp_(min=1e-30)
        order = _by_content(members, side_a, side_b, weight)
        return cls(members, side_a[order], side_b[order], weight[order], order)

    def gram(self) -> Tensor:
        """Return the inner products of the z, (n, n)."""
        a, b = (products[self.order][:, self.order] for products in self.members.grams)
        return self.side_a.outer(self.side_a) * a + self.side_b.outer(self.side_b) * b

    def largest(self) -> Tensor:
        """Return |z|_∞, (n,)."""
        a, b = _by_row(self.members.a)[self.order], _by_column(self.members.b)[self.order]
        return torch.maximum(self.side_a * a, self.side_b.abs() * b)

    def mix(self, share: Tensor) -> Mix:
        """Return the k centroids Σ share · z as a mix of the members' MSUs; share is (k, n)."""
        left, right = torch.empty_like(share), torch.empty_like(share.mT)
        left[:, self.order] = share * self.side_a
        right[self.order] = (share * self.side_b).mT
        return Mix(left, right, self.members)


def _sides(members: Members, weights: Sequence[float], *, balance: bool) -> tuple[Tensor, Tensor]:
    """Return the factors on each MSU's a and b, (n,) float64 each."""
    root = members.spread(math.sqrt(abs(member.scale)) for member in members)
    sign = members.spread(
        math.copysign(1.0, weight * member.scale)
        for weight, member in zip(weights, members, strict=True)
    )
    if not balance:
        return root, root * sign
    a, b = (products.diagonal().clamp(min=0.0) for products in members.grams)  # |a_j|², |b_j|²
    zero = (a == 0.0) | (b == 0.0)  # a zero MSU cannot be balanced: the ratio is 0 or infinite
    ratio = (b / a) ** 0.25
    return torch.where(zero, 0.0, root * ratio), torch.where(zero, 0.0, root * sign / ratio)


def _by_content(members: Members, side_a: Tensor, side_b: Tensor, weight: Tensor) -> Tensor:
    heads = [
        side_a[:, None] * members.a[:, :_SORTED_BY].double().cpu(),
        side_b[:, None] * members.b[:_SORTED_BY].mT.double().cpu(),
        weight[:, None],
    ]
    keys = torch.cat(heads, dim=1)
    order = torch.arange(len(keys))
    for key in keys.unbind(1):
        order = order[key[order].argsort(stable=True)]
    return order


def _by_row(x: Tensor) -> Tensor:
    """Return the infinity norm of each row, float64 on the CPU."""
    return torch.maximum(x.amax(1), -x.amin(1)).double().cpu()


def _by_column(x: Tensor) -> Tensor:
    """Return the infinity norm of each column, float64 on the CPU."""
    # Reductions over long narrow matrices are slow: fold rows into wide ones first.
    whole = len(x) // _FOLD
    if whole:
        wide = x[: whole * _FOLD].reshape(whole, -1)
        folded = torch.maximum(wide.amax(0), -wide.amin(0)).view(_FOLD, -1)
        x = torch.cat([folded, x[whole * _FOLD :]])
    return _by_row(x.mT)
