"""Two bases that several matrices share: the Tucker-2 decomposition of their stack.

Covered: small matrices, in float64. Not covered: merging within the bases (`methods.ctm`).
"""

import torch
from torch import Tensor

# The end of the iteration: when a sweep gains less than this share of the energy kept. The authors
# of CtM run to 1e-6, up to 1000 sweeps; the loose bound costs a small share of the energy on flat
# spectra and saves most of the sweeps.
MAX_SWEEPS = 200
TOLERANCE = 3e-4


def shared_bases(stack: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return orthonormal U (p, k) and V (q, k') that keep most of Σ |Uᵀ X_i V|².

    Higher-order orthogonal iteration (De Lathauwer, De Moor and Vandewalle 2000, §4): each basis
    in turn is improved for the other one, until the energy kept stops growing, at a local optimum.
    An improvement is one step of orthogonal iteration instead of an eigenvalue problem: the same
    fixed points, at a quarter of the cost. Vectors are sorted by falling energy.

    Args:
        stack: (T, p, q) float64.
        rank: at least 1; k = min(rank, p), k' = min(rank, q).
    """
    # The start is the truncated HOSVD: near the optimum, and the same for every order of members.
    across = stack.mT.contiguous()
    u = _leading(stack, rank)
    v = _leading(across @ u, rank)
    kept = 0.0
    for _ in range(MAX_SWEEPS):
        u = _turned(stack @ v, u)
        projected = across @ u  # (T, q, k)
        v = _turned(projected, v)
        energy = float((projected.mT @ v).square().sum())
        if energy - kept <= TOLERANCE * energy:
            break
        kept = energy
    # The span is settled; rotating within it sorts the vectors, so that a prefix of a basis is the
    # best basis of that size.
    cores = u.mT @ stack @ v
    return u @ _leading(cores, rank), v @ _leading(cores.mT, rank)


def _turned(stack: Tensor, basis: Tensor) -> Tensor:
    """Return `basis` (p, k) turned towards the leading left vectors of all matrices (T, p, k')."""
    beside = stack.transpose(0, 1).flatten(1)  # (p, T k')
    # X (Xᵀ U) rather than (X Xᵀ) U: two thin products in place of a (p, p) matrix.
    turned: Tensor = torch.linalg.qr(beside @ (beside.mT @ basis)).Q
    return turned


def _leading(stack: Tensor, rank: int) -> Tensor:
    """Return the leading left singular vectors of all matrices side by side, (p, ≤ rank)."""
    beside = stack.transpose(0, 1).flatten(1)
    _, vectors = torch.linalg.eigh(beside @ beside.mT)
    leading: Tensor = vectors.flip(1)[:, :rank]
    return leading
