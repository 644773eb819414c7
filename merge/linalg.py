"""Exact linear algebra on updates in the form of factors.

Covered: inner products, norms and Gram matrices of updates, the best rank-k approximation of a
weighted sum, and the canonical form of one update. Not covered: elementwise operations, which need
a dense update. Long vectors are multiplied in float32 where a condition number proves it enough and
in float64 elsewhere; matrices of the size of a rank are float64.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from merge.factors import Factors, Grams, Members, Merged, Mix

# Limits on the mean inverse eigenvalue of the whitened Gram matrices, per side. A Gram matrix has
# the square of its vectors' condition number, so forming one loses digits that QR of the vectors
# keeps. Up to the first limit float32 products are enough; up to the second, float64 products (each
# singular value is then good to a relative 1e-5); beyond it the factors go through Householder QR.
_WELL_CONDITIONED = 20.0
_CONDITIONED = 1e7
# Singular values below this share of the largest are float64 rounding of zero: a sum whose members
# cancel has them in place of directions.
_NOTHING = 1e-13
# The kept share is a quotient of two float64 sums: `energy=1.0` would otherwise be missed by the
# last bit and no rank would reach it.
_ROUNDING = 1e-12


def inner(f: Factors, g: Factors) -> float:
    """Return ⟨f, g⟩ = trace of update_fᵀ update_g, for updates of one shape (d_out, d_in).

    By the identity tr((b_fᵀ b_g)(a_g a_fᵀ)), in O((d_in + d_out) r_f r_g) and float64, because
    differences of nearly equal updates would drown in float32 rounding.
    """
    over_b = f.b.double().mT @ g.b.double()  # (r_f, r_g)
    over_a = f.a.double() @ g.a.double().mT  # (r_f, r_g)
    return f.scale * g.scale * float((over_b * over_a).sum())


def gram(updates: Sequence[Factors]) -> Tensor:
    """Return the (T, T) float64 matrix of inner products between updates of one shape."""
    members = Members.of(updates)
    return update_products(members, members.exact_grams)


def update_products(members: Members, grams: Grams) -> Tensor:
    """Return the (T, T) float64 inner products of updates, given those of their MSUs."""
    owned = by_member(members)  # (T, R)
    scales = torch.tensor([member.scale for member in members], dtype=torch.float64)
    return torch.outer(scales, scales) * (owned @ (grams.a * grams.b) @ owned.mT)


def by_member(members: Members) -> Tensor:
    """Return (T, R) with ones where an MSU is a member's; not to be changed."""
    return _by_rank(members.ranks)


@lru_cache(maxsize=256)  # a merge asks twice for each module: 0.1 ms of small kernels
def _by_rank(ranks: tuple[int, ...]) -> Tensor:
    owner = torch.arange(len(ranks)).repeat_interleave(torch.tensor(ranks))
    return torch.nn.functional.one_hot(owner, len(ranks)).double().mT


def canonical(f: Factors) -> Factors:
    """Return the same update as its singular triplets: √sigma on each side, descending, scale 1.

    Where singular values differ, the result depends on the update alone and not on its
    factorisation; signs are those of `truncated_sum`. MSUs beyond the update's own rank are zero.
    """
    return truncated_sum([f], [1.0], f.rank).factors


def truncated_sum(
    updates: Sequence[Factors],
    weights: Sequence[float],
    rank: int,
    energy: float | None = None,
) -> Merged:
    """Return the best approximation of Σ weight · update with min(rank, R) MSUs.

    With A = L Qᵀ the stacked rows (L Lᵀ their Gram matrix) and B the stacked columns times their
    weights, the sum is B L Qᵀ. Its right singular vectors are Q V with V from the eigenvectors of
    Lᵀ BᵀB L, an (R, R) matrix, and B L V Vᵀ Qᵀ is the best approximation (Eckart and Young 1936, on
    a product of thin matrices); √sigma goes to each side. Singular vectors are unique up to a sign:
    it is chosen so that the largest entry of each row of `a` is positive, which gives equal inputs
    equal factors on every machine.
    The energy is Σ of the kept sigma² over Σ of all (1 for a sum that is zero).

    Args:
        updates: T updates of one shape.
        weights: (T,), finite, of any sign.
        rank: at least 1.
        energy: in (0, 1]; with it the result has the smallest rank whose energy reaches it, at
            least 1 and at most min(rank, R).
    """
    members = Members.of(updates)
    triplets, top = _decomposed(members, weights)
    keep = _kept_rank(triplets.sigma, min(rank, sum(members.ranks)), energy)
    return _expand(members, triplets, keep, top)


def singular_values(updates: Sequence[Factors], weights: Sequence[float]) -> Tensor:
    """Return the singular values of Σ weight · update, (≤ R,) float64, falling.

    Values that are rounding of zero are left in.
    """
    triplets, top = _decomposed(Members.of(updates), weights)
    return triplets.sigma * top


class _Triplets(NamedTuple):
    """Singular triplets of a sum: sigma descending, rows of length 1, columns of length sigma."""

    sigma: Tensor  # (p,) float64, as left and right are; all three on the CPU
    left: Tensor  # (p, q): the rows are left @ basis
    right: Tensor  # (R, p): the columns are the members' columns @ right
    basis: Tensor  # (q, d_in), in the precision that the products need
    mixes: bool  # whether the basis is the members' own rows


def _decomposed(members: Members, weights: Sequence[float]) -> tuple[_Triplets, float]:
    """Return the triplets of Σ weight · update, divided by the second value.

    Weights are divided by the largest, which is multiplied in at the end: the decompositions square
    their input, so weights of 1e200 would overflow there and not in the result.
    """
    top = float(max(map(abs, weights), default=0.0)) or 1.0
    coefficients = [float(w) / top * f.scale for w, f in zip(weights, members, strict=True)]
    per_unit = members.spread(coefficients)  # (R,)
    # From the cheapest to the safest; each of the first two returns None if rounding would show.
    triplets = (
        _from_grams(members, per_unit, exact=False)
        or _from_grams(members, per_unit, exact=True)
        or _from_qr(members, per_unit)
    )
    return triplets, top


def _from_grams(members: Members, per_unit: Tensor, *, exact: bool) -> _Triplets | None:
    """Return all R triplets from the Gram matrices alone; None where rounding would show.

    A = L Qᵀ without computing Q: L is the Cholesky factor of A Aᵀ, and rows of Qᵀ are L⁻¹ A.
    """
    grams = members.exact_grams if exact else members.grams
    limit = _CONDITIONED if exact else _WELL_CONDITIONED
    half = _half(grams.a, limit)
    if half is None or _half(grams.b, limit) is None:
        return None
    lower, inverse = half
    # A zero row of `a` has a made-up direction in `lower`; its coefficient must not reach the sum.
    weighted = torch.where(grams.a.diagonal() > 0.0, per_unit, 0.0)[:, None] * lower
    square, vectors = torch.linalg.eigh(weighted.mT @ grams.b @ weighted)
    vectors = vectors.flip(1)  # eigh sorts ascending
    # Squares of the smallest singular values can round to below zero; their root would be NaN.
    sigma = square.flip(0).clamp_(min=0.0).sqrt_()
    basis = members.a.double() if exact else members.a
    return _Triplets(sigma, vectors.mT @ inverse, weighted @ vectors, basis, mixes=True)


def _half(gram: Tensor, limit: float) -> tuple[Tensor, Tensor] | None:
    """Return L and L⁻¹ with L Lᵀ = `gram`, lower triangular; None where `gram` is near singular.

    Judged after whitening (a unit diagonal): rows of very different length lose no digits, nearly
    parallel ones do. A zero MSU gets a direction of its own, since Cholesky needs a positive
    diagonal.
    """
    length = gram.diagonal().sqrt()
    length = torch.where(length > 0.0, length, 1.0)
    unit = (gram / torch.outer(length, length)).fill_diagonal_(1.0)
    lower, failed = torch.linalg.cholesky_ex(unit)
    if failed:
        return None
    eye = torch.eye(len(gram), dtype=gram.dtype)
    inverse = torch.linalg.solve_triangular(lower, eye, upper=False)
    # |L⁻¹|² is the sum of the inverse eigenvalues: a condition estimate that costs no eigensolver.
    # The comparison is negated so that NaN counts as near singular.
    if not float(inverse.square().sum()) <= limit * len(gram):
        return None
    return lower * length[:, None], inverse / length


def _from_qr(members: Members, per_unit: Tensor) -> _Triplets:
    """Return min(R, d_in, d_out) triplets by Householder QR and the SVD of the core, in float64.

    The core of both triangular factors has the condition of the update, not its square, so exact
    copies and cancelling members are handled.
    """
    # (R, R) decompositions run on the CPU: on a GPU their launches take longer than their work.
    basis, upper = torch.linalg.qr(members.a.double().mT)  # (d_in, q), (q, R)
    weighted = per_unit[:, None] * upper.mT.cpu()  # (R, q)
    core = torch.linalg.qr(members.b.double(), mode="r").R.cpu() @ weighted
    _, sigma, vectors = torch.linalg.svd(core, full_matrices=False)  # vectors (p, q)
    return _Triplets(sigma, vectors, weighted @ vectors.mT, basis.mT, mixes=False)


def _expand(members: Members, triplets: _Triplets, keep: int, top: float) -> Merged:
    """Return the first `keep` triplets as factors, times `top`."""
    sigma, left, right, basis, mixes = triplets
    kept = sigma[:keep]  # fewer than `keep` where the module is narrower than R
    # A direction of rounding has a column of length about 1e-16; divided by √sigma of the same size
    # it would put entries of size 1e-8 where zeros belong, and infinities for sigma = 0.
    real = kept > _NOTHING * sigma[0]
    root = torch.where(real, kept * top, 0.0).sqrt()
    shrink = torch.where(real, root / kept, 0.0)
    a = root.to(basis)[:, None] * (left[:keep].to(basis) @ basis)
    b = shrink.to(basis) * (members.b.to(basis) @ right[:, :keep].to(basis))
    # Signs follow `a` alone: `b` would change them with every sign of a weight.
    largest = a.abs().argmax(dim=1, keepdim=True)
    sign = torch.where(a.gather(1, largest)[:, 0] < 0, -1.0, 1.0)
    a, b = _pad(sign.to(basis)[:, None] * a, keep), _pad((sign.to(basis) * b).mT, keep).mT
    mix = None
    if mixes:
        sign = sign.double().cpu()
        mix = Mix((sign * root)[:, None] * left[:keep], right[:, :keep] * (sign * shrink), members)
    return Merged(Factors(a.float(), b.float().contiguous()), _kept_energy(sigma, keep), mix)


def _pad(x: Tensor, rows: int) -> Tensor:
    """Append rows of zeros: a module narrower than R has fewer directions than MSUs."""
    return torch.nn.functional.pad(x, (0, 0, 0, rows - len(x))) if len(x) < rows else x


def _kept_rank(sigma: Tensor, most: int, energy: float | None) -> int:
    """Return the smallest rank that keeps `energy`, at most `most`; without `energy`, `most`.

    A sum that is zero keeps its whole energy at rank 1.
    """
    if energy is None:
        return most
    shares = [_kept_energy(sigma, keep) for keep in range(1, most + 1)]
    return next((i for i, share in enumerate(shares, 1) if share >= energy - _ROUNDING), most)


def _kept_energy(sigma: Tensor, keep: int) -> float:
    if float(sigma[0]) == 0.0:
        return 1.0
    squares = (sigma / sigma[0]) ** 2  # relative, so that squares of huge values do not overflow
    return float(squares[:keep].sum() / squares.sum())
