"""`lego`: LoRA-LEGO, clusters of minimal semantic units.

The paper gives the grouping, the two reweightings and their reasons; the exact formulas (infinity
norms, √(r/k)) are those on which independent implementations agree.
"""

import math

import torch
from torch import Tensor

from merge.factors import Factors, Merged, Stack
from merge.kmeans import kmeans
from merge.methods.method import merge_method
from merge.methods.options import Count, Positive, Rank, Seed
from merge.seeds import generator_for


@merge_method(
    "lego",
    paper="arXiv:2409.16167",
    title="LoRA-LEGO: k-means over minimal semantic units, centroids reweighted",
    differs="weights, which the paper does not have, are relative sample weights (a negative one "
    "turns its MSUs' b around); scales enter as √scale on each side; with mixed ranks the "
    "reference rank is the members' mean",
    exempt={
        "reparameterisation": "clusters are made of rows of a and columns of b, so another "
        "factorisation of the same update has other units",
        "weights": "weights are relative: multiplying all of them changes nothing; use scale",
    },
    auto_rank="largest",
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
) -> Merged:
    """Return k = min(rank, n) centroids of the members' n MSUs (arXiv 2409.16167).

    An MSU is z = [√s a_j, √s b_j]; a centroid is the weighted mean of its cluster. Parameter
    reweighting multiplies it by (weighted mean of |z|_∞) / |centroid|_∞, since a mean is shorter
    than what it averages; output reweighting multiplies b by √(reference_rank / k), since the
    variance of k summed units grows with k.

    Args:
        stack: the members; |weight| counts, its sign turns b around.
        rank: the number of clusters asked for.
        seed: of the k-means++ draws, together with the module's name.
        n_init: restarts of k-means, the best of which is taken.
        parameter_reweighting: whether centroids get their members' size back.
        output_reweighting: whether the result gets one adapter's size back.
        reference_rank: rank r in √(r/k); None means the mean rank of the stack's members.
    """
    za, zb, weight = _units(stack)  # (n, d_in), (n, d_out), (n,) float64
    k = min(rank, len(za))
    clustering = kmeans(
        za @ za.mT + zb @ zb.mT, weight, k, n_init=n_init,
        generator=generator_for(seed, stack.module),
    )  # fmt: skip
    share = torch.nn.functional.one_hot(clustering.labels, k).double() * weight[:, None]
    share = (share / share.sum(0)).mT  # (k, n), rows sum to 1
    new_a, new_b = share @ za, share @ zb  # (k, d_in), (k, d_out)
    if parameter_reweighting:
        wanted = share @ _largest(za, zb)  # (k,)
        have = _largest(new_a, new_b)
        ratio = torch.where(have > 0.0, wanted / have, 1.0)[:, None]
        new_a, new_b = new_a * ratio, new_b * ratio
    if output_reweighting:
        mean_rank = sum(stack.ranks) / len(stack.ranks)
        reference = mean_rank if reference_rank is None else reference_rank
        new_b = new_b * math.sqrt(reference / k)
    return Merged(Factors(new_a.float(), new_b.mT.float().contiguous()))


def _units(stack: Stack) -> tuple[Tensor, Tensor, Tensor]:
    """Return the MSUs' halves (n, d_in) and (n, d_out) and weights (n,), all float64.

    They are sorted by content, so that no order of members or ranks can show in a draw or a sum.
    """
    wide = (Factors(m.a.double(), m.b.double(), m.scale) for m in stack.members)
    members = [member.balanced() for member in wide]
    signs = [math.copysign(1.0, weight) for weight in stack.weights]
    za = torch.cat([member.a for member in members])
    zb = torch.cat([m.b.mT * sign for m, sign in zip(members, signs, strict=True)])
    weight = torch.tensor(stack.weights, dtype=torch.float64).abs()
    # A weight that is nothing beside the largest must still be a weight: clusters have mass.
    weight = (weight / weight.max()).clamp(min=1e-30)
    weight = weight.repeat_interleave(torch.tensor(stack.ranks))
    order = torch.arange(len(za))
    for key in (weight, za[:, 0], zb[:, 0], za.square().sum(1) + zb.square().sum(1)):
        order = order[key[order].argsort(stable=True)]
    return za[order], zb[order], weight[order]


def _largest(a: Tensor, b: Tensor) -> Tensor:
    """Return the infinity norm of each row of [a, b]."""
    return torch.maximum(a.abs().amax(1), b.abs().amax(1))
