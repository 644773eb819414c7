"""Two bases that several matrices share: the Tucker-2 decomposition of their stack.

Covered: small matrices, many stacks at once, in float64. Not covered: merging within the bases
(`methods.ctm`).

Shape letters: M stacks of T matrices (p, q); bases of k and k' directions.
"""

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

# The end: two steps in a row that change the relative error by less than this. The authors of CtM
# end with one sweep of theirs that does.
MAX_STEPS = 1000
TOLERANCE = 1e-6
# Of the mean eigenvalue, added before dividing by them: directions of no energy have none.
_DAMPING = 1e-3
# Units in the last place that a sum of squares can be off by.
_ROUNDING = 8
# Evaluations of a line search. The first is at the length of a step of orthogonal iteration.
_TRIALS = 2
_LONGEST = 8.0
# How far a step may take a vector of length 1: beyond, rounding loses its digits.
_FARTHEST = 1e3


class Bases(NamedTuple):
    """Orthonormal columns, for each of M stacks."""

    u: Tensor  # (M, p, k)
    v: Tensor  # (M, q, k')


def shared_bases(stack: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the bases U (p, k) and V (q, k') of one stack, as `shared_bases_of_each` does."""
    bases = shared_bases_of_each(stack[None], rank)
    return bases.u[0], bases.v[0]


def shared_bases_of_each(stacks: Tensor, rank: int) -> Bases:
    """Return orthonormal U and V of each stack that keep most of Σ |Uᵀ X_i V|².

    From the truncated higher-order SVD (De Lathauwer, De Moor and Vandewalle 2000, §4) by
    nonlinear conjugate gradients on both bases at once (De Sterck and Howse 2016), with a step of
    orthogonal iteration in place of the gradient, to a local optimum. The alternating iteration of
    the former paper has the same fixed points and takes several times as long on flat spectra.
    Vectors are sorted by falling energy.

    Args:
        stacks: (M, T, p, q) float64.
        rank: at least 1; k = min(rank, p), k' = min(rank, q).
    """
    size = stacks.flatten(1).norm(dim=1)[:, None, None, None]
    stacks = stacks / torch.where(size > 0.0, size, 1.0)
    size = stacks.flatten(1).norm(dim=1)[:, None, None, None]
    stacks = stacks / torch.where(size > 0.0, size, 1.0)
    by_row = stacks.transpose(1, 2).contiguous()  # (M, p, T, q)
    by_column = stacks.permute(0, 3, 1, 2).contiguous()  # (M, q, T, p)
    # The start is near the optimum, and the same for every order of members.
    u = _leading(by_row, rank)
    bases = Bases(u, _leading(_over(by_column, u), rank))
    bases = _climbed(by_row, by_column, bases)
    # The span is settled; rotating within it sorts the vectors, so that a prefix of a basis is the
    # best basis of that size.
    cores = _within(bases.u, _over(by_row, bases.v))  # (M, k, T, k')
    turned = _leading(cores, rank), _leading(cores.transpose(1, 3), rank)
    return Bases(bases.u @ turned[0], bases.v @ turned[1])


def _climbed(by_row: Tensor, by_column: Tensor, bases: Bases) -> Bases:
    """Return the bases after as many steps as gain, for stacks of norm 1."""
    at, path = _Place.of(by_row, by_column, *bases), None
    ends, going = Bases(bases.u.clone(), bases.v.clone()), torch.arange(len(bases.u))
    energy = at.energy
    small = torch.zeros_like(energy, dtype=torch.bool)
    rounding = _ROUNDING * torch.finfo(energy.dtype).eps
    for step in range(1, MAX_STEPS + 1):
        # A conjugate direction can be a poor one: a small step is followed by one without it.
        path = _direction(at, path, alone=small)
        at, path = _step(at, path)
        before, energy, was_small = energy, at.energy, small
        # The relative error is √(1 - energy); what is gained by rounding is nothing.
        gain = _error(before) - _error(energy)
        small = (gain <= TOLERANCE) | (energy - before <= rounding)
        done = small & was_small
        if step == MAX_STEPS or done.any():
            ends.u[going], ends.v[going] = at.u, at.v
            if step == MAX_STEPS or done.all():
                break
            left = ~done  # go on without the stacks that have converged
            at, path = _chosen(at, left), _chosen(path, left)
            small, energy, going = small[left], energy[left], going[left]
    return ends


def _error(energy: Tensor) -> Tensor:
    return (1.0 - energy).clamp(min=0.0).sqrt()


class _Place(NamedTuple):
    """Bases, and what they make of the stacks.

    The number of the matrix stands between its rows and columns: a product with all matrices on
    either side is then one of two matrices, without a copy.
    """

    by_row: Tensor  # X_i, (M, p, T, q)
    by_column: Tensor  # X_iᵀ, (M, q, T, p)
    u: Tensor  # (M, p, k)
    v: Tensor  # (M, q, k')
    over_v: Tensor  # X_i V, (M, p, T, k')
    over_u: Tensor  # X_iᵀ U, (M, q, T, k)
    cores: Tensor  # Uᵀ X_i V, (M, k, T, k')

    @classmethod
    def of(cls, by_row: Tensor, by_column: Tensor, u: Tensor, v: Tensor) -> "_Place":
        over_v = _over(by_row, v)
        return cls(by_row, by_column, u, v, over_v, _over(by_column, u), _within(u, over_v))

    @property
    def energy(self) -> Tensor:
        """What the bases keep, (M,)."""
        return self.cores.square().sum((1, 2, 3))


def _over(x: Tensor, basis: Tensor) -> Tensor:
    """Return x_i basis, (M, m, T, k), for x (M, m, T, d) and a basis (M, d, k)."""
    return (x.flatten(1, 2) @ basis).view(*x.shape[:3], -1)


def _within(basis: Tensor, x: Tensor) -> Tensor:
    """Return basisᵀ x_i, (M, k, T, d), for x (M, m, T, d) and a basis (M, m, k)."""
    return (basis.mT @ x.flatten(2)).view(len(x), -1, *x.shape[2:])


class _Path(NamedTuple):
    """A direction from a place, orthogonal to its bases, and the gradient there."""

    along_u: Tensor  # (M, p, k)
    along_v: Tensor  # (M, q, k')
    slope_u: Tensor  # (M, p, k)
    slope_v: Tensor  # (M, q, k')
    size: Tensor  # (M,) of the gradient, in the metric of the preconditioner


_Rows = TypeVar("_Rows", _Place, _Path)


def _chosen(rows: _Rows, stacks: Tensor) -> _Rows:
    return type(rows)(*(x[stacks] for x in rows))


def _direction(at: _Place, before: _Path | None, *, alone: Tensor) -> _Path:
    """Return the direction of steepest ascent, and where `alone` is false part of the last one.

    The gradient is preconditioned: divided by the energies of the bases' directions it is a step of
    orthogonal iteration. The share of the last direction is Polak and Ribière's.
    """
    slope_u, along_u = _ascent(at.u, at.over_v.flatten(2) @ at.cores.flatten(2).mT)
    across = at.cores.transpose(1, 3)  # (M, k', T, k)
    slope_v, along_v = _ascent(at.v, at.over_u.flatten(2) @ across.flatten(2).mT)
    size = _dot(slope_u, along_u) + _dot(slope_v, along_v)
    if before is None:
        return _Path(along_u, along_v, slope_u, slope_v, size)
    common = _dot(along_u, before.slope_u) + _dot(along_v, before.slope_v)
    share = ((size - common) / before.size).nan_to_num(0.0, 0.0, 0.0).clamp(min=0.0)
    share = share.masked_fill(alone, 0.0)[:, None, None]
    last_u = before.along_u - at.u @ (at.u.mT @ before.along_u)
    last_v = before.along_v - at.v @ (at.v.mT @ before.along_v)
    rises = _dot(slope_u, last_u) + _dot(slope_v, last_v)
    share = torch.where((size + share[:, 0, 0] * rises > 0.0)[:, None, None], share, 0.0)
    return _Path(along_u + share * last_u, along_v + share * last_v, slope_u, slope_v, size)


def _ascent(basis: Tensor, product: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient, and a step of orthogonal iteration less its part within the basis.

    Args:
        basis: (M, p, k).
        product: (M, p, k), the Gram matrix of what the other basis leaves, times the basis.
    """
    within = basis.mT @ product
    slope = product - basis @ within
    energies = within.diagonal(dim1=1, dim2=2)
    energies += _DAMPING * energies.mean(1, keepdim=True) + torch.finfo(within.dtype).tiny
    return slope, torch.linalg.solve(within, slope.mT).mT


def _step(at: _Place, path: _Path) -> tuple[_Place, _Path]:
    """Return the best place along a path, and the path as it is seen from there."""
    over_v, over_u = _over(at.by_row, path.along_v), _over(at.by_column, path.along_u)
    linear = _within(path.along_u, at.over_v)
    linear += _within(path.along_v, at.over_u).transpose(1, 3)
    square = _within(path.along_u, over_v)
    t = _length(at, path, linear, square)[:, None, None]
    u, v = at.u + t * path.along_u, at.v + t * path.along_v
    turn_u, turn_v = _orthonormalising(u), _orthonormalising(v)
    t = t[..., None]
    # In place: new memory costs more than the arithmetic.
    over_v.mul_(t).add_(at.over_v)
    over_u.mul_(t).add_(at.over_u)
    cores = square.mul_(t).add_(linear).mul_(t).add_(at.cores)
    place = _Place(
        at.by_row,
        at.by_column,
        u @ turn_u,
        v @ turn_v,
        _over(over_v, turn_v),
        _over(over_u, turn_u),
        _over(_within(turn_u, cores), turn_v),
    )
    seen = _Path(
        path.along_u @ turn_u,
        path.along_v @ turn_v,
        path.slope_u @ turn_u,
        path.slope_v @ turn_v,
        path.size,
    )
    return place, seen


def _length(at: _Place, path: _Path, linear: Tensor, square: Tensor) -> Tensor:
    """Return the length of a step (M,) that keeps the most energy of a few; 0 if none gains.

    The energy at t is Σ |N(t)|² with N = cores + t linear + t² square, each entry divided by
    (1 + t² sigma)(1 + t² tau): squares of singular values of the direction, in whose bases the
    entries are. Its derivative is brought to zero by the secant method.
    """
    sigma, left = torch.linalg.eigh(path.along_u.mT @ path.along_u)
    tau, right = torch.linalg.eigh(path.along_v.mT @ path.along_v)
    sigma, tau = sigma.clamp(min=0.0)[:, :, None, None], tau.clamp(min=0.0)[:, None, None]
    terms = _over(_within(left, torch.cat([at.cores, linear, square], dim=2)), right)
    n0, n1, n2 = terms.chunk(3, dim=2)
    reach = torch.maximum(sigma.amax((1, 2, 3)), tau.amax((1, 2, 3))).sqrt()
    longest = (_FARTHEST / reach).clamp(max=_LONGEST)
    best, most = torch.zeros_like(path.size), at.energy
    last, steep = best, 2 * (_dot(path.slope_u, path.along_u) + _dot(path.slope_v, path.along_v))
    t = longest.clamp(max=1.0)
    for _ in range(_TRIALS):
        x = t[:, None, None, None]
        n, longer_u, longer_v = n0 + x * n1 + x * x * n2, 1 + x * x * sigma, 1 + x * x * tau
        kept = n / (longer_u * longer_v)
        energy = (n * kept).sum((1, 2, 3))
        shrinking = x * (sigma / longer_u + tau / longer_v)
        rise = 2 * (kept * (n1 + 2 * x * n2 - n * shrinking)).sum((1, 2, 3))
        best, most = torch.where(energy > most, t, best), torch.maximum(energy, most)
        curving = (rise - steep) / (t - last)
        # Where the energy still rises faster, only a longer step is known to gain.
        following = torch.where(curving < 0.0, t - rise / curving, 2 * t)
        last, steep = t, rise
        t = torch.minimum(following.clamp(min=1e-3), longest)
    return best


def _orthonormalising(x: Tensor) -> Tensor:
    """Return W (M, k, k) that makes the columns of x W orthonormal, for x (M, p, k)."""
    lower = torch.linalg.cholesky(x.mT @ x)
    eye = torch.eye(x.shape[2]).to(x).expand_as(lower)
    inverse: Tensor = torch.linalg.solve_triangular(lower, eye, upper=False)
    return inverse.mT


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Return ⟨x, y⟩ of each stack, (M,)."""
    return (x * y).sum((1, 2))


def _leading(stacks: Tensor, rank: int) -> Tensor:
    """Return the leading left singular vectors of x_i side by side, (M, p, ≤ rank).

    `stacks` is (M, p, T, q).
    """
    beside = stacks.flatten(2)
    _, vectors = torch.linalg.eigh(beside @ beside.mT)
    leading: Tensor = vectors.flip(2)[:, :, :rank]
    return leading
