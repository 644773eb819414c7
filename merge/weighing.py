"""A stack's members with weights and scales multiplied in, safely sized and in an order of content.

Methods that are more than sums start here. Three things are settled once, for all of them: a weight
multiplies its update before anything else happens (a negative one merges the negated update);
no product of factors can overflow or vanish, however large or small the inputs; and neither the
order of the members nor the factorisation of their updates can show in a draw or a rounding.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from merge.factors import Factors, Members, Stack, inner_of_rows
from merge.seeds import generator_for

# The result is float32: a size beyond this is an overflow there, whatever is multiplied by it.
_LARGEST = 1000


class Weighed(NamedTuple):
    """A stack's updates are `size` · member, whose entries are at most about its rank."""

    members: tuple[Factors, ...]  # scale 1, float32, ordered by content
    size: float  # a power of two


def weigh(stack: Stack) -> Weighed:
    """Return weight · scale · b a of each member as factors without scale, over a common size.

    Sizes are powers of two, so that only the product weight · scale rounds. Members are sorted by
    content.
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
    return (x.double() * 2.0**-exponent).float(), exponent  # 2⁻ᵉ can be beyond float32


def order_by_content(stack: Stack) -> list[int]:
    """Return the members' positions sorted by uᵀ (weight · update) v, for fixed random u and v.

    It is the same for every order of the members and every factorisation of their updates, so what
    is dealt out by it (a seed's draws) is too.
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
