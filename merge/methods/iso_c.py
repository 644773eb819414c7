"""`iso_c`: the sum with all its singular values made equal."""

import torch

from merge.basis import NOISE, coordinates
from merge.factors import Merged, Stack
from merge.methods.method import merge_method
from merge.methods.options import Rank


@merge_method(
    "iso_c",
    paper="arXiv:2502.04959",
    title="Iso-C: the weighted sum, its singular values replaced by their mean",
    differs="the mean is over the rank of the sum, not over min(d_in, d_out) as in the paper, "
    "which has full fine-tuning: most of the energy would go to arbitrary directions of the null "
    "space; a smaller rank k keeps the sum's k strongest directions at that mean",
    exempt={
        "identity": "the method makes the singular values of a single adapter equal, too",
        "copies": "the method makes the singular values of copies equal, as of a single adapter",
    },
    auto_rank="sum",
)
def iso_c(stack: Stack, *, rank: Rank) -> Merged:
    """Return mean(sigma) · UVᵀ for the SVD of Σ weight · update (arXiv 2502.04959, §4.1).

    The mean is over the sum's own rank. The energy is the share of directions kept, since all have
    one singular value.

    Args:
        stack: the members; weights of any sign.
        rank: the largest rank of the result.
    """
    at = coordinates(stack)
    u, sigma, v = torch.linalg.svd(torch.stack(at.cores).sum(0), full_matrices=False)
    # Values below NOISE are rounding: counted in, they would lower the mean and become directions.
    own = max(1, int((sigma > NOISE * sigma[0]).sum()))
    kept = min(rank, own)
    level = sigma[:own].mean().expand(kept)
    merged = at.compose(u[:, :kept], level, v[:kept], rank=min(rank, stack.total_rank))
    return Merged(merged.factors, kept / own, merged.mix)
