"""Minimal semantic units (MSUs) of many modules: points for k-means, and mixes of them.

An MSU is a row of `a` with the column of `b` at the same place. Whatever has the size of a rank is
one batch over all modules, on the device of their factors. Long vectors are a batch over modules of
one shape on a GPU, where launches cost more than work; on a CPU each module is its own, because
placing them side by side would copy them. No module's numbers depend on the others.

Not covered: clusters (`kmeans`), and what is made of them (`methods.lego`).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from merge.factors import LARGEST_SQUARE, LEAST_SQUARE, Members, gram_of_rows

# MSUs are sorted by this many entries of each half before the first draw. MSUs that agree in all
# of them are copies in practice, whose order changes nothing.
_SORTED_BY = 4
# Rows of a long narrow matrix reduced side by side: (d_out, 80) becomes (d_out / 16, 1280), whose
# reduction runs along contiguous memory.
_FOLD = 16
_MAGNITUDE = 0x7FFF  # all bits of bfloat16 and float16 but the sign


class Batch(NamedTuple):
    """Long vectors of m modules, multiplied at once."""

    places: list[int]  # of the modules, among all M
    a: Tensor  # (m, n, d_in) float32
    b: Tensor  # (m, d_out, n)


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """The n MSUs z_j = [side_a a_j, side_b b_j] of each of M modules, with sample weights.

    Everything is float64, on the factors' device, and sorted by content, so that no result depends
    on the order of members or ranks; `order` holds the members' MSU at each position.
    """

    batches: Sequence[Batch]
    stored: Sequence[Batch]  # the same numbers as files hold them, where those are known
    side_a: Tensor  # (M, n)
    side_b: Tensor  # (M, n)
    weight: Tensor  # (M, n)
    gram: Tensor  # (M, n, n), of the z
    order: Tensor  # (M, n) int64

    @classmethod
    def of(
        cls, members: Sequence[Members], weights: Sequence[Sequence[float]], *, balance: bool
    ) -> "Units":
        """Return the MSUs with √scale on both sides and the weights' signs on b, sorted.

        Args:
            members: of M modules, all with n MSUs.
            weights: (M, T): the absolute value is the sample weight, the sign multiplies b.
            balance: whether to rescale each MSU to |a_j| = |b_j|.
        """
        batches = _batches(members)
        grams = over(batches, lambda part: _grams(part, members))  # (M, 2, n, n)
        side_a, side_b = _sides(members, weights, grams if balance else None)
        weight = _spread(members, [[abs(w) for w in of_module] for of_module in weights])
        # Bounded from below: a cluster of units whose weights underflow to 0 would have no mass,
        # and its centroid would be 0 / 0.
        weight = (weight / weight.amax(1, keepdim=True)).clamp_(min=1e-30)
        order = _by_content(batches, side_a, side_b, weight)
        side_a, side_b, weight = (x.gather(1, order) for x in (side_a, side_b, weight))
        modules = torch.arange(len(order), device=order.device)[:, None, None, None]
        pairs = torch.arange(2, device=order.device)[:, None, None]
        grams = grams[modules, pairs, order[:, None, :, None], order[:, None, None]]
        gram = _outer(side_a) * grams[:, 0] + _outer(side_b) * grams[:, 1]
        stored = [_stored(part, members) for part in batches]
        return cls(batches, stored, side_a, side_b, weight, gram, order)

    def largest(self) -> Tensor:
        """Return |z|_∞, (M, n)."""
        a = over(self.stored, lambda part: largest_of_rows(part.a)).gather(1, self.order)
        b = over(self.stored, lambda part: largest_of_columns(part.b)).gather(1, self.order)
        return torch.maximum(self.side_a * a, self.side_b.abs() * b)

    def mixed(self, share: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums Σ share · z as mixes of the members' MSUs.

        Args:
            share: (M, k, n).

        Returns:
            What multiplies all rows of `a`, (M, k, n), and all columns of `b`, (M, n, k).
        """
        order = self.order[:, None].expand_as(share)
        left = torch.empty_like(share).scatter_(2, order, share * self.side_a[:, None])
        right = torch.empty_like(share).scatter_(2, order, share * self.side_b[:, None])
        return left, right.mT.contiguous()

    def summed(self, left: Tensor, right: Tensor) -> list[Batch]:
        """Return what mixes give, of rank k: `left` is (M, k, n), `right` is (M, n, k)."""
        return [
            Batch(places, left[places].to(a) @ a, b @ right[places].to(b))
            for places, a, b in self.batches
        ]


def _batches(members: Sequence[Members]) -> list[Batch]:
    """Return the modules in batches: one each on a CPU, all of one shape on a GPU."""
    alike: dict[object, list[int]] = {}
    for i, of_module in enumerate(members):
        a, b = of_module.a, of_module.b
        alike.setdefault(i if _apart(a) else (a.shape, b.shape), []).append(i)
    return [
        Batch(
            places,
            _stacked([members[i].a for i in places]),
            _stacked([members[i].b for i in places]),
        )
        for places in alike.values()
    ]


def _apart(x: Tensor) -> bool:
    return x.device.type == "cpu"


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors of one shape as a batch; one alone is not copied."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(list(tensors))


def _stored(part: Batch, members: Sequence[Members]) -> Batch:
    narrow = members[part.places[0]].stored if len(part.places) == 1 else None
    if narrow is None or narrow.a is None or narrow.b is None:
        return part
    return Batch(part.places, narrow.a[None], narrow.b[None])


def over(batches: Sequence[Batch], of_batch: Callable[[Batch], Tensor]) -> Tensor:
    """Return what `of_batch` gives for each of M modules, (M, …), from (m, …) for a batch."""
    places = torch.tensor([place for part in batches for place in part.places])
    joined = torch.cat([of_batch(part) for part in batches])
    return joined[places.argsort().to(joined.device)]


def _grams(part: Batch, members: Sequence[Members]) -> Tensor:
    """Return the inner products of rows of `a` and of columns of `b`, (m, 2, n, n) float64."""
    if len(part.places) == 1:  # what the members remember serves the measure, too
        return torch.stack(members[part.places[0]].grams)[None].to(part.a.device)
    return torch.stack([_products(part.a), _products(part.b.mT)], dim=1)


def _products(x: Tensor) -> Tensor:
    """Return what `gram_of_rows` gives for each of x (m, n, d), on its device."""
    gram = (x @ x.mT).double()
    low, high = torch.aminmax(gram.diagonal(dim1=1, dim2=2), dim=1)
    outside = ~((low > LEAST_SQUARE) & (high < LARGEST_SQUARE))
    for i in outside.nonzero()[:, 0].tolist():
        gram[i] = gram_of_rows(x[i], exact=True).to(gram.device)
    return (gram + gram.mT) / 2


def _sides(
    members: Sequence[Members], weights: Sequence[Sequence[float]], balancing: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the factors on each MSU's a and b, (M, n) each; `balancing` is (M, 2, n, n)."""
    root = _spread(members, [[math.sqrt(abs(f.scale)) for f in m] for m in members])
    signs = [
        [math.copysign(1.0, w * f.scale) for w, f in zip(of_module, m, strict=True)]
        for of_module, m in zip(weights, members, strict=True)
    ]
    sign = _spread(members, signs)
    if balancing is None:
        return root, root * sign
    squares = balancing.diagonal(dim1=2, dim2=3).clamp(min=0.0)  # |a_j|², |b_j|²
    a, b = squares.unbind(1)
    zero = (a == 0.0) | (b == 0.0)  # a zero MSU cannot be balanced: the ratio is 0 or infinite
    ratio = (b / a) ** 0.25
    return torch.where(zero, 0.0, root * ratio), torch.where(zero, 0.0, root * sign / ratio)


def _spread(members: Sequence[Members], values: Sequence[Iterable[float]]) -> Tensor:
    """Return one number per MSU, (M, n) float64, from one per member of each module."""
    rows = [
        [value for value, f in zip(of_module, m, strict=True) for _ in range(f.rank)]
        for of_module, m in zip(values, members, strict=True)
    ]
    return torch.tensor(rows, dtype=torch.float64, device=members[0].a.device)


def _by_content(batches: Sequence[Batch], side_a: Tensor, side_b: Tensor, weight: Tensor) -> Tensor:
    """Return the order (M, n) of MSUs by weight, then by their last compared entry, and so on."""
    heads_a = over(batches, lambda part: _heads(part.a))  # (M, n, 4)
    heads_b = over(batches, lambda part: _heads(part.b.mT))
    keys = [*(side_a[..., None] * heads_a).unbind(2), *(side_b[..., None] * heads_b).unbind(2)]
    order = torch.arange(weight.shape[1], device=weight.device).expand_as(weight)
    for key in (*keys, weight):
        order = order.gather(1, key.gather(1, order).argsort(dim=1, stable=True))
    return order


def _heads(x: Tensor) -> Tensor:
    """Return the first entries of each row of x (m, n, d), zeros where there are fewer."""
    heads = x[:, :, :_SORTED_BY].double()
    return torch.nn.functional.pad(heads, (0, _SORTED_BY - heads.shape[2]))


def _outer(x: Tensor) -> Tensor:
    return x[:, :, None] * x[:, None]


def largest_of_rows(x: Tensor) -> Tensor:
    """Return the infinity norm of each row, (m, n) float64, of x (m, n, d)."""
    return _peaks(x, 2).double()


def largest_of_columns(x: Tensor) -> Tensor:
    """Return the infinity norm of each column, (m, n) float64, of x (m, d, n)."""
    # Reductions over long narrow matrices are slow: fold rows into wide ones first.
    count, rows, columns = x.shape
    whole = rows // _FOLD
    if whole:
        wide = x[:, : whole * _FOLD].reshape(count, whole, -1)
        folded = _peaks(wide, 1).view(count, _FOLD, columns)
        x = torch.cat([folded, x[:, whole * _FOLD :]], dim=1)
    return largest_of_rows(x.mT)


def _peaks(x: Tensor, dim: int) -> Tensor:
    """Return the largest magnitudes along a dimension, in the dtype of x."""
    if x.itemsize == 2:  # without their signs, bits sort as the numbers do
        return (x.view(torch.int16) & _MAGNITUDE).amax(dim).view(x.dtype)
    return torch.maximum(x.amax(dim), -x.amin(dim))
