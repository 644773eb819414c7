"""A stack's members with weights and scales multiplied in, of one size and in an order of content.

Nonlinear methods start here. It ensures three properties for all of them: a weight multiplies its
update before any other step (a negative one merges the negated update); no product of factors
overflows or vanishes, however large or small the inputs; and no draw or rounding depends on the
order of the members or on the factorisation of their updates.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from merge.factors import Factors, Members, Stack, inner_of_rows
from merge.seeds import generator_for

# Bounds exponents, since 2.0**1024 raises OverflowError. A result of this size is outside float32
# in any case: it is refused as an overflow, or is zero.
_LARGEST = 1000


class Weighed(NamedTuple):
    """A stack's updates are `size` · member, whose entries are at most about its rank."""

    members: tuple[Factors, ...]  # scale 1, float32, ordered by content
    size: float  # a power of two


def weigh(stack: Stack) -> Weighed:
    """Return weight · scale · b a of each member as factors without scale, over a common size.

    Sizes are powers of two, whose products are exact: only weight · scale rounds. Members are
    sorted by content.
    """
    order = order_by_content(stack)
    parts = [_parts(stack.members[i], stack.weights[i]) for i in order]
    top = max((exponent for _, exponent in parts if exponent is not None), default=0)
    members = [
        Factors(f.a, f.b if exponent is None else f.b * 2.0 ** max(exponent - top, -_LARGEST))
        for f, exponent in parts
    ]
    return Weighed(tuple(members), math.ldexp(1.0, max(-_LARGEST, min(top, _LARGEST))))


def _parts(member: Factors, weight: float) -> tuple[Factors, int | None]:
    """Return weight · update as factors with entries up to 1 and an exponent of two; None for 0."""
    a, of_a = _scaled(member.a)
    b, of_b = _scaled(member.b)
    mantissa, of_weight = math.frexp(weight)
    share, of_scale = math.frexp(member.scale)
    factors = Factors(a, b * (mantissa * share))
    if mantissa * share == 0.0 or not (a.any() and b.any()):
        return factors, None
    return factors, of_a + of_b + of_weight + of_scale


def _scaled(x: Tensor) -> tuple[Tensor, int]:
    """Return x / 2^e with entries below 1, and e."""
    exponent = math.frexp(float(x.abs().max()))[1]
    # In float64: x may hold 1e-40, and 2⁻ᵉ is then outside float32.
    return (x.double() * 2.0**-exponent).float(), exponent


def order_by_content(stack: Stack) -> list[int]:
    """Return the members' positions sorted by uᵀ (weight · update) v, for fixed random u and v.

    The key depends neither on the order of the members nor on the factorisation of their updates,
    so the assignment of a seed's draws to members does not either.
    """
    generator = generator_for(0, "order of members")
    members = Members.of(stack.members)
    v = torch.randn(1, members.a.shape[1], generator=generator).to(members.a)
    u = torch.randn(1, members.b.shape[0], generator=generator).to(members.b)
    products = (inner_of_rows(u, members.b.mT) * inner_of_rows(v, members.a))[0]  # (R,)
    keys = [
        float(product.sum()) * f.scale * weight
        for product, f, weight in zip(
            torch.split(products, list(members.ranks)), members, stack.weights, strict=True
        )
    ]
    return sorted(range(len(keys)), key=keys.__getitem__)
