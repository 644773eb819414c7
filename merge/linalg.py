"""Exact linear algebra on updates that are only ever held as factors.

Covered: inner products, norms and Gram matrices of updates, and the best rank-k approximation of a
weighted sum. Not covered: anything elementwise on an update, which needs it dense. All of it
computes in float64, because differences of nearly equal updates would drown in float32 rounding.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from merge.factors import Factors, Merged


def inner(f: Factors, g: Factors) -> float:
    """Return ⟨f, g⟩ = trace of update_fᵀ update_g, for updates of one shape (d_out, d_in).

    By the identity tr((b_fᵀ b_g)(a_g a_fᵀ)), in O((d_in + d_out) r_f r_g).
    """
    over_b = f.b.double().mT @ g.b.double()  # (r_f, r_g)
    over_a = f.a.double() @ g.a.double().mT  # (r_f, r_g)
    return f.scale * g.scale * float((over_b * over_a).sum())


def gram(updates: Sequence[Factors]) -> Tensor:
    """Return the (T, T) float64 matrix of inner products between updates of one shape."""
    result = torch.empty(len(updates), len(updates), dtype=torch.float64)
    for i, f in enumerate(updates):
        for j, g in enumerate(updates[: i + 1]):
            result[i, j] = result[j, i] = inner(f, g)
    return result


def frobenius_norm(f: Factors) -> float:
    """Return the Frobenius norm of the update; 0 where rounding would make its square negative."""
    return math.sqrt(max(inner(f, f), 0.0))


def truncated_sum(updates: Sequence[Factors], weights: Sequence[float], rank: int) -> Merged:
    """Return the best approximation of Σ weight · update with min(rank, R) MSUs.

    QR of the stacked factors, then the SVD of the small core R_b R_aᵀ; √sigma goes to each side
    (Eckart-Young on a product of thin matrices). Each MSU's sign is fixed by making the largest
    entry of its row of `a` positive, so that equal inputs give equal factors on every machine.
    The energy is Σ of the kept sigma² over Σ of all (1 for a sum that is zero).

    Args:
        updates: T updates of one shape.
        weights: (T,), finite, of any sign.
        rank: at least 1.
    """
    # Weights are divided by the largest and put back at the end: the decompositions never overflow.
    top = max(map(abs, weights), default=0.0) or 1.0
    a = torch.cat([f.a.double() for f in updates])  # (R, d_in)
    b = torch.cat(
        [
            f.b.double() * (weight / top * f.scale)
            for f, weight in zip(updates, weights, strict=True)
        ],
        dim=1,
    )  # (d_out, R)
    q_b, r_b = torch.linalg.qr(b)
    q_a, r_a = torch.linalg.qr(a.mT)
    u, sigma, v = torch.linalg.svd(r_b @ r_a.mT, full_matrices=False)
    keep = min(rank, len(a))
    root = (sigma[:keep] * top).sqrt()  # (≤ keep,): fewer where the module is narrower than R
    new_a = root[:, None] * (v[:keep] @ q_a.mT)
    new_b = (q_b @ u[:, :keep]) * root
    largest = new_a.abs().argmax(dim=1, keepdim=True)
    sign = torch.where(new_a.gather(1, largest) < 0, -1.0, 1.0)  # (≤ keep, 1)
    factors = Factors(_pad_rows(sign * new_a, keep), _pad_rows((new_b * sign.mT).mT, keep).mT)
    return Merged(
        Factors(factors.a.float().contiguous(), factors.b.float().contiguous()),
        _kept_energy(sigma, keep),
    )


def _pad_rows(x: Tensor, rows: int) -> Tensor:
    """Append rows of zeros: MSUs that a narrow module has no direction left for."""
    return torch.nn.functional.pad(x, (0, 0, 0, rows - len(x)))


def _kept_energy(sigma: Tensor, keep: int) -> float:
    if float(sigma[0]) == 0.0:
        return 1.0
    squares = (sigma / sigma[0]) ** 2  # relative, so that squares of huge values do not overflow
    return float(squares[:keep].sum() / squares.sum())
