"""`lego`: LoRA-LEGO, clusters of minimal semantic units.

The paper describes the grouping and the two reweightings; the exact formulas (infinity norms,
√(r/k)) are those on which independent implementations agree.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from merge.factors import Factors, Members, Merged, Mix, Stack
from merge.kmeans import kmeans_of_each
from merge.linalg import canonical as canonical_form
from merge.methods.method import merge_method
from merge.methods.options import Count, Positive, Rank, Seed
from merge.seeds import generator_for
from merge.units import Units, largest_of_columns, largest_of_rows, over


def lego_of_each(
    stacks: Sequence[Stack],
    *,
    rank: int,
    seed: int,
    n_init: int,
    parameter_reweighting: bool,
    output_reweighting: bool,
    reference_rank: float | None,
    canonical: bool,
    balance: bool,
) -> list[Merged]:
    """Return what `lego` gives for each stack; all of a rank's size is batched over stacks."""
    results: dict[int, Merged] = {}
    for n in {stack.total_rank for stack in stacks}:
        places = [i for i, stack in enumerate(stacks) if stack.total_rank == n]
        chosen = [stacks[i] for i in places]
        members = [
            Members.of(map(canonical_form, stack.members) if canonical else stack.members)
            for stack in chosen
        ]
        units = Units.of(members, [stack.weights for stack in chosen], balance=balance)
        clusterings = kmeans_of_each(
            units.gram.float(),  # products of float32 vectors: the dtype says how exact they are
            units.weight,
            min(rank, n),
            n_init=n_init,
            generators=[generator_for(seed, stack.module) for stack in chosen],
        )
        labels = torch.stack([clustering.labels for clustering in clusterings])
        references = [
            sum(stack.ranks) / len(stack.ranks) if reference_rank is None else reference_rank
            for stack in chosen
        ]
        results |= zip(
            places,
            _merged(
                units,
                members,
                labels,
                parameter_reweighting=parameter_reweighting,
                references=references if output_reweighting else None,
            ),
            strict=True,
        )
    return [results[i] for i in range(len(stacks))]


def _merged(
    units: Units,
    members: Sequence[Members],
    labels: Tensor,
    *,
    parameter_reweighting: bool,
    references: Sequence[float] | None,
) -> list[Merged]:
    """Return the reweighted centroids of each module's clusters; `labels` is (M, n)."""
    share = torch.nn.functional.one_hot(labels).double() * units.weight[:, :, None]
    share = (share / share.sum(1, keepdim=True)).mT  # (M, k, n), rows sum to 1
    left, right = units.mixed(share)
    centroids = units.summed(left, right)
    factor = share.new_ones(share.shape[:2])  # (M, k), of both halves
    if parameter_reweighting:
        have = torch.maximum(
            over(centroids, lambda part: largest_of_rows(part.a)),
            over(centroids, lambda part: largest_of_columns(part.b)),
        )
        wanted = (share * units.largest()[:, None]).sum(2)
        # A centroid of opposite units is zero and has no size to restore.
        factor = torch.where(have > 0.0, wanted / have, 1.0)
    of_b = factor
    if references is not None:
        sizes = [math.sqrt(reference / share.shape[1]) for reference in references]
        of_b = factor * factor.new_tensor(sizes)[:, None]
    left, right = (factor[:, :, None] * left).cpu(), (of_b[:, None] * right).cpu()
    factors = {
        place: Factors(a, b)
        for places, many_a, many_b in centroids
        for place, a, b in zip(
            places,
            many_a.mul_(factor[places, :, None].to(many_a)),
            many_b.mul_(of_b[places, None].to(many_b)),
            strict=True,
        )
    }
    return [
        Merged(factors[i], mix=Mix(left[i], right[i], of_module))
        for i, of_module in enumerate(members)
    ]


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
    group=lego_of_each,
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
    return lego_of_each(
        [stack],
        rank=rank,
        seed=seed,
        n_init=n_init,
        parameter_reweighting=parameter_reweighting,
        output_reweighting=output_reweighting,
        reference_rank=reference_rank,
        canonical=canonical,
        balance=balance,
    )[0]
