"""Thin bases: the spans of a stack's rows and columns, and two papers' bases in them.

A stack of R MSUs spans at most R dimensions on either side. `coordinates` returns orthonormal bases
of both and every update as a small matrix in them, from two Gram matrices; `knots` and `core` are
the bases in which the papers of those names apply elementwise steps. None of them depends on how an
update is factored or on the order of the members. Not covered: the steps on the small matrices.

Directions below 10⁻⁶ of the largest are dropped: they are the rounding of dependent rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from merge.dense import from_matrix
from merge.factors import Factors, Grams, Members, Merged, Mix, Stack
from merge.weighing import order_by_content

Basis = Literal["dense", "knots", "core"]

NOISE = 1e-6
# A float32 Gram matrix has an error of 10⁻⁶ of its largest eigenvalue. Dividing by the smallest one
# makes it an error of the basis: where the smallest is above this share of the largest, the bases
# are orthonormal to 2·10⁻⁵; else the products are computed again in float64.
_SHARP = 0.05
# Coefficients above this times float32 rows lose the digits that the sum is made of.
_HUGE = 1e15


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Updates as blocks in a thin basis, and the way back."""

    blocks: tuple[Factors, ...]  # T of one shape (rows, cols), float32
    lift: Callable[[Tensor, int], Merged]  # (rows, cols) float32 and a rank -> the update


@dataclass(frozen=True, slots=True, eq=False)
class Coordinates:
    """A stack's weighted updates in orthonormal bases: size · (b left) core (right a).

    All float64 on the CPU. `heads`, `tails` and `lengths` are in an order of content; rows of
    `left` and columns of `right` are in the stack's order.
    """

    members: Members
    exact: bool  # whether the members' products need float64
    order: Sequence[int]  # of heads and tails, as positions in the stack
    left: Tensor  # (R, p): b @ left (d_out, p) has orthonormal columns
    right: Tensor  # (q, R): right @ a (q, d_in) has orthonormal rows
    heads: Sequence[Tensor]  # T of (p, r): each member's columns of b in the left basis
    tails: Sequence[Tensor]  # T of (r, q): its rows of a, brought to length 1, in the right basis
    lengths: Sequence[Tensor]  # T of (r,): what those rows were divided by
    size: float  # chosen so that the largest core has norm 1

    @property
    def cores(self) -> list[Tensor]:
        """The updates as T matrices (p, q): norms and angles are the updates' own."""
        return [head @ tail for head, tail in zip(self.heads, self.tails, strict=True)]

    def svd(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return U (p, ≤ r), sigma (≤ r,) falling and Vᵀ (≤ r, q) of each member's core."""
        triplets = []
        for head, tail in zip(self.heads, self.tails, strict=True):
            # QR of both sides first: the SVD is then of (r, r) instead of (p, q), with p, q ≈ T r.
            q_left, r_left = torch.linalg.qr(head)
            q_right, r_right = torch.linalg.qr(tail.mT)
            u, sigma, v = torch.linalg.svd(r_left @ r_right.mT, full_matrices=False)
            triplets.append((q_left @ u, sigma, v @ q_right.mT))
        return triplets

    def at_mean_norm(self, core: Tensor) -> Tensor:
        """Return `core` (p, q) brought to the mean norm of the updates, or zero if it is nothing.

        A core below NOISE of that norm is what rounding leaves of members that cancel.
        """
        wanted = float(torch.stack([own.norm() for own in self.cores]).mean())
        size = float(core.norm())
        return core * (wanted / size if size > NOISE * wanted else 0.0)

    def frame(self, u: Tensor, v: Tensor) -> Frame:
        """Return the cores within orthonormal u (p, rows) and v (q, cols), and the way back.

        The blocks stay factors: elementwise steps read tiles of their products, as of any update.
        """
        blocks = tuple(
            Factors((tail @ v).float(), (u.mT @ head).float())
            for head, tail in zip(self.heads, self.tails, strict=True)
        )
        return Frame(blocks, lambda m, rank: self.lift(u @ m.to(u) @ v.mT, rank=rank))

    def lift(self, core: Tensor, *, rank: int) -> Merged:
        """Return the update whose core is `core` (p, q) at exactly `rank` MSUs, and energy kept."""
        u, sigma, v = torch.linalg.svd(core, full_matrices=False)
        merged = self.compose(u, sigma, v, rank=rank)
        whole = float(sigma.square().sum())
        kept = float(sigma[:rank].square().sum())
        return Merged(merged.factors, kept / whole if whole > 0.0 else 1.0, merged.mix)

    def compose(self, u: Tensor, sigma: Tensor, v: Tensor, *, rank: int) -> Merged:
        """Return the first `rank` triplets of u (p, n), sigma (n,) and v (n, q) as an update.

        √sigma goes to each side; MSUs beyond n are zero.
        """
        root = (sigma[:rank] * self.size).sqrt()  # (≤ rank,)
        missing = rank - len(root)
        mix = Mix(
            pad(root[:, None] * v[:rank] @ self.right, (0, 0, 0, missing)),
            pad(self.left @ u[:, :rank] * root, (0, missing)),
            self.members,
        )
        a, b = self._long()
        factors = Factors((mix.left.to(a) @ a).float(), (b @ mix.right.to(b)).float())
        return Merged(factors, None, mix)

    def columns(self, u: Tensor) -> Tensor:
        """Return the directions u (p, n) of the left basis in full, (d_out, n) float32."""
        _, b = self._long()
        return (b @ (self.left @ u).to(b)).float()

    def _long(self) -> tuple[Tensor, Tensor]:
        a, b = self.members.a, self.members.b
        return (a.double(), b.double()) if self.exact else (a, b)


def coordinates(stack: Stack) -> Coordinates:
    """Return the coordinates of weight · update of the stack's members.

    The bases are singular vectors of the stacked a and b, rows of a brought to length 1, from the
    eigenvectors of their Gram matrices in float64.
    """
    members = Members.of(stack.members)
    top = max(map(abs, stack.weights))  # divided out: squares of weights could overflow
    share = members.spread(w / top * f.scale for w, f in zip(stack.weights, members, strict=True))
    # The cheap products first; most stacks are of unrelated adapters and need no others.
    exact = False
    sides = _sides(members.grams, share)
    if not sides.sharp:
        exact = True
        sides = _sides(members.exact_grams, share)
    ranks = list(members.ranks)
    parts = list(
        zip(
            torch.split(sides.heads, ranks, 1),
            torch.split(sides.tails, ranks),
            torch.split(sides.length, ranks),
            strict=True,
        )
    )
    peak = max(float((head @ tail).norm()) for head, tail, _ in parts) or 1.0
    order = order_by_content(stack)
    return Coordinates(
        members=members,
        exact=exact,
        order=order,
        left=sides.left,
        right=sides.right,
        heads=[parts[i][0] / peak for i in order],
        tails=[parts[i][1] for i in order],
        lengths=[parts[i][2] for i in order],
        size=top * peak,
    )


class _Sides(NamedTuple):
    left: Tensor  # (R, p)
    heads: Tensor  # (p, R)
    right: Tensor  # (q, R)
    tails: Tensor  # (R, q)
    length: Tensor  # (R,) of the rows of a

    @property
    def sharp(self) -> bool:
        """Whether float32 products were enough: no nearly dependent MSUs, no huge coefficients."""
        even = all(
            float(square.min()) > _SHARP * float(square.max()) and len(square) == len(self.length)
            for square in (self.heads.square().sum(1), self.tails.square().sum(0))
        )
        return even and float(torch.maximum(self.left.abs().max(), self.right.abs().max())) < _HUGE


def _sides(grams: Grams, share: Tensor) -> _Sides:
    """Return both bases for columns of b times `share` (R,).

    Rows of `a` are brought to length 1 and their lengths moved to `b`. A basis of rows of mixed
    lengths would drop short rows as noise although their long columns make them count.
    """
    length = grams.a.diagonal().sqrt()
    length = torch.where(length > 0.0, length, 1.0)
    share = share * length
    left, heads = _basis(torch.outer(share, share) * grams.b)
    right, tails = _basis(grams.a / torch.outer(length, length))
    return _Sides(share[:, None] * left, heads, (right / length[:, None]).mT, tails.mT, length)


def _basis(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Return W (R, p), which makes xW orthonormal for the x with xᵀx = gram, and (xW)ᵀx (p, R)."""
    squares, vectors = torch.linalg.eigh(gram)
    sigma = squares.clamp(min=0.0).sqrt()  # (R,) rising
    kept = sigma > NOISE * sigma[-1]
    kept[-1] = True  # a stack of zero updates still needs a basis of one direction
    sigma, vectors = sigma[kept], vectors[:, kept]
    return vectors * torch.where(sigma > 0.0, 1.0 / sigma, 0.0), (vectors * sigma).mT


def knots(stack: Stack) -> Frame:
    """Return the blocks ΣV_iᵀ of the SVD [update_1 … update_T] = UΣ[V_1ᵀ … V_Tᵀ], (≤ R, d_in).

    KnOTS (arXiv 2410.19735, §4): all members are expressed in one basis U of the output space, and
    their coefficients in it are merged. U is computed in the coordinates, without a dense update.
    """
    at = coordinates(stack)
    u = directions(torch.cat(at.cores, dim=1))  # (p, rows)
    blocks = tuple(
        Factors(at.members[i].a, (u.mT @ head / length).to(at.members.a))
        for i, head, length in zip(at.order, at.heads, at.lengths, strict=True)
    )
    left = at.columns(u)  # (d_out, rows)
    return Frame(blocks, lambda m, rank: from_matrix(m, rank=rank, size=at.size, left=left))


def core(stack: Stack) -> Frame:
    """Return the cores UᵀΔ_iV, (≤ R, ≤ R), in the bases of Core Space (arXiv 2509.17786, §4).

    U holds the left singular vectors of [b_1 … b_T], V the right ones of [a_1; …; a_T]. Those
    depend on how each update is factored; here every member is first brought to its own SVD with
    √sigma on each side, so the cores do not.
    """
    at = coordinates(stack)
    svds = at.svd()
    u = directions(torch.cat([u * sigma.sqrt() for u, sigma, _ in svds], dim=1))  # (p, rows)
    v = directions(torch.cat([v.mT * sigma.sqrt() for _, sigma, v in svds], dim=1))  # (q, cols)
    return at.frame(u, v)


def directions(x: Tensor) -> Tensor:
    """Return x's left singular vectors (rows, ≥ 1) whose singular value is above the noise.

    From eigenvectors of x xᵀ: x is wide (p by T r), so the square is the smaller problem, and the
    vectors that it would blur are below NOISE and dropped.
    """
    squares, vectors = torch.linalg.eigh(x @ x.mT)
    kept = squares > NOISE**2 * squares[-1]
    kept[-1] = True  # zero updates still need a basis of one direction
    u: Tensor = vectors[:, kept].flip(1)
    return u
