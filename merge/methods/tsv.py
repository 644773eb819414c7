"""`tsv`: the members' singular vectors, made orthonormal together and summed."""

import torch
from torch import Tensor

from merge.basis import NOISE, Coordinates, coordinates
from merge.factors import Merged, Stack
from merge.methods.method import merge_method
from merge.methods.options import Rank


@merge_method(
    "tsv",
    paper="arXiv:2412.00081",
    title="TSV-Merge: singular vectors of all updates made orthonormal together, then summed",
    differs="each update keeps as many singular vectors as its rank, not min(d_in, d_out) / T: for "
    "LoRA those would include arbitrary vectors of the null space, which change the result; "
    "weights, which the paper does not have, multiply updates first; the result is truncated",
    auto_rank="sum",
    copies="mean",
)
def tsv(stack: Stack, *, rank: Rank) -> Merged:
    """Return U⊥ Σ V⊥ᵀ (arXiv 2412.00081, §3.2, algorithm 1, "TSV-M"), truncated to rank k.

    U stacks the left singular vectors of every weight · update, V the right ones, Σ their singular
    values; X⊥ is the orthonormal matrix nearest to X (its polar factor). It is taken within the
    span of the vectors, so that copies of an adapter share its directions.

    Args:
        stack: the members; a negative weight merges the negated update.
        rank: the largest rank of the result.
    """
    at = coordinates(stack)
    return at.lift(orthonormal_sum(at), rank=min(rank, stack.total_rank))


def orthonormal_sum(at: Coordinates) -> Tensor:
    """Return U⊥ Σ V⊥ᵀ of the cores, (p, q)."""
    triplets = []
    for u, sigma, v in at.svd():
        # Relative to the largest core, whose norm is 1. Vectors of smaller values are rounding, and
        # whitening would raise them to the length of real ones.
        own = sigma > NOISE
        triplets.append((u[:, own], sigma[own], v[own]))
    left, values, right = zip(*triplets, strict=True)
    u, v = _nearest_orthonormal(torch.cat(left, 1)), _nearest_orthonormal(torch.cat(right).mT)
    result: Tensor = u * torch.cat(values) @ v.mT
    return result


def _nearest_orthonormal(x: Tensor) -> Tensor:
    """Return the polar factor of x (d, n) within its span, X (XᵀX)^-½ by eigenvectors of XᵀX."""
    # Not the SVD of x: copies of an adapter make XᵀX singular, and the cut at NOISE² drops exactly
    # the directions that the copies share.
    squares, q = torch.linalg.eigh(x.mT @ x)
    own = squares > NOISE**2
    q = q[:, own]
    result: Tensor = (x @ q * squares[own].rsqrt()) @ q.mT
    return result
