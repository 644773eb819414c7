"""Two bases that several matrices share: the Tucker-2 decomposition of their stack.

Covered: small matrices, in float64. Not covered: what is put into the bases.
"""

import torch
from torch import Tensor

MAX_SWEEPS = 200
TOLERANCE = 1e-5  # of the energy kept, per sweep: further sweeps win a thousandth of it at most


def shared_bases(stack: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return orthonormal U (p, k) and V (q, k') that keep most of Σ |Uᵀ X_i V|².

    Higher-order orthogonal iteration (De Lathauwer, De Moor and Vandewalle 2000, §4): from the
    leading singular vectors of both unfoldings, each basis in turn gets better given the other,
    until the energy kept stops growing, at a local optimum. Vectors
    come by falling energy.

    Args:
        stack: (T, p, q) float64.
        rank: at least 1; k = min(rank, p), k' = min(rank, q).
    """
    u, v = _leading(stack, rank), _leading(stack.mT, rank)
    kept = 0.0
    for _ in range(MAX_SWEEPS):
        u = _leading(stack @ v, rank)
        v = _leading(stack.mT @ u, rank)
        energy = float((u.mT @ stack @ v).square().sum())
        if energy - kept <= TOLERANCE * energy:
            break
        kept = energy
    cores = u.mT @ stack @ v
    return u @ _leading(cores, rank), v @ _leading(cores.mT, rank)


def _leading(stack: Tensor, rank: int) -> Tensor:
    """Return the leading left singular vectors of all matrices side by side, (p, ≤ rank)."""
    _, vectors = torch.linalg.eigh((stack @ stack.mT).sum(0))
    leading: Tensor = vectors.flip(1)[:, :rank]
    return leading
