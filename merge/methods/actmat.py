"""`actmat`: RegMean whose covariances of inputs are estimated from the updates themselves."""

import torch
from torch import Tensor

from merge.basis import NOISE, Coordinates, coordinates
from merge.factors import Merged, Stack
from merge.methods.method import merge_method
from merge.methods.options import Rank, Share


@merge_method(
    "actmat",
    paper="arXiv:2604.01329",
    title="ACTMat: the update nearest to all on the inputs that each one reads (RegMean without "
    "data)",
    differs="weights, which the paper does not have, multiply updates first; singular values below "
    "1e-6 of the largest are rounding (the authors' float32 pseudo-inverse also drops those below "
    "√(d_in · 1.2e-7), 2e-2 at d_in = 4096, which regularises); the ridge adds to every "
    "covariance, so that it leads to the mean and not to zero; normalise and rescale are weft's "
    "own; the result is truncated",
    auto_rank="sum",
    copies="mean",
)
def actmat(
    stack: Stack,
    *,
    rank: Rank,
    normalise: bool = False,
    ridge: Share = 0.0,
    rescale: bool = False,
) -> Merged:
    """Return (Σ Δ_i C_i)(Σ C_i)⁺ with C_i = Δ_iᵀΔ_i, truncated to rank k.

    That W minimises Σ tr((W - Δ_i) C_i (W - Δ_i)ᵀ), the interference on the members' inputs if
    C_i is their covariance (RegMean); arXiv 2604.01329, §3, takes the updates' own inner products
    for it. Exact in the span of the members' rows, since every C_i lies in it. Where these rows are
    independent, as those of LoRA mostly are, W does to each member's inputs what the member does,
    whatever the sizes of the C_i: `normalise` matters with a ridge, or where R > d_in.

    Args:
        stack: the members; a negative weight merges the negated update.
        rank: the largest rank of the result.
        normalise: whether each C_i is divided by |Δ_i|², so that a large adapter's inputs count no
            more than a small one's.
        ridge: λ / |Σ C_i|₂ · T of a λ that is added to every C_i: members that read nearly equal
            inputs are told apart by numbers that grow without bound, and a ridge bounds them.
        rescale: whether the result is brought to the mean norm of the weighted updates.
    """
    at = coordinates(stack)
    core = _regression(at, normalise=normalise, ridge=ridge)
    if rescale:
        core = at.at_mean_norm(core)
    return at.lift(core, rank=min(rank, stack.total_rank))


def _regression(at: Coordinates, *, normalise: bool, ridge: float) -> Tensor:
    """Return the merged core (p, q), without forming a covariance.

    With the members' SVDs U_iΣ_iV_iᵀ and K = [c_iΣ_iV_iᵀ] one above the other, c_i² the share of
    C_i, Σ C_i is KᵀK and Σ Δ_i C_i is [U_iΣ_i²c_i] K; and K(KᵀK)⁺ comes from one SVD of K. Inner
    products of the rows of K would square its condition, which near-copies make large.
    """
    left, values, shares, rows = [], [], [], []
    for u, sigma, v in at.svd():
        own = sigma > NOISE  # relative to the largest core: smaller ones are rounding
        left.append(u[:, own])
        values.append(sigma[own])
        rows.append(v[own])
        length = float(sigma[own].norm()) if normalise else 1.0
        shares.append(torch.full_like(sigma[own], 1.0 / length if length > 0.0 else 1.0))
    sigma, share = torch.cat(values), torch.cat(shares)
    k, s, z = torch.linalg.svd((share * sigma)[:, None] * torch.cat(rows), full_matrices=False)
    if not len(s):  # zero updates alone
        return torch.zeros(at.left.shape[1], at.right.shape[0], dtype=torch.float64)
    size = len(at.heads)
    extra = ridge * float(s[0]) ** 2 / size  # λ
    inverse = torch.where(s > NOISE * s[0], s / (s.square() + size * extra), 0.0)
    weighted = torch.cat(left, 1) * (share * sigma.square() + extra / share)  # (p, R)
    core: Tensor = weighted @ (k * inverse) @ z
    return core
