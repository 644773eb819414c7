"""Two bases that several matrices share: the Tucker-2 decomposition of their stack.

Covered: small matrices, in float64. Not covered: what is put into the bases.
"""

import torch
from torch import Tensor

MAX_SWEEPS = 200
TOLERANCE = 3e-4  # of the energy kept, per sweep


def shared_bases(stack: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return orthonormal U (p, k) and V (q, k') that keep most of Σ |Uᵀ X_i V|².

    Higher-order orthogonal iteration (De Lathauwer, De Moor and Vandewalle 2000, §4): each basis
    in turn gets better given the other, until the energy kept stops growing, at a local optimum.
    A turn is one step of orthogonal iteration in place of an eigenvalue problem: the same end, at
    a quarter of the cost. Vectors come by falling energy.

    Args:
        stack: (T, p, q) float64.
        rank: at least 1; k = min(rank, p), k' = min(rank, q).
    """
    across = stack.mT.contiguous()
    u = _leading(stack, rank)
    v = _leading(across @ u, rank)
    kept = 0.0
    for _ in range(MAX_SWEEPS):
        u = _turned(stack @ v, u)
        seen = across @ u  # (T, q, k)
        v = _turned(seen, v)
        energy = float((seen.mT @ v).square().sum())
        if energy - kept <= TOLERANCE * energy:
            break
        kept = energy
    cores = u.mT @ stack @ v
    return u @ _leading(cores, rank), v @ _leading(cores.mT, rank)


def _turned(stack: Tensor, basis: Tensor) -> Tensor:
    """Return `basis` (p, k) turned towards the leading left vectors of all matrices (T, p, k')."""
    beside = stack.transpose(0, 1).flatten(1)  # (p, T k')
    turned: Tensor = torch.linalg.qr(beside @ (beside.mT @ basis)).Q
    return turned


def _leading(stack: Tensor, rank: int) -> Tensor:
    """Return the leading left singular vectors of all matrices side by side, (p, ≤ rank)."""
    beside = stack.transpose(0, 1).flatten(1)
    _, vectors = torch.linalg.eigh(beside @ beside.mT)
    leading: Tensor = vectors.flip(1)[:, :rank]
    return leading
