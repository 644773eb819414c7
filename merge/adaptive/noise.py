"""The control that asks whether a pool's content matters: the same adapters, redrawn at random.

Every factor is Gaussian with the deviation of the one that it stands for, as `reinit_case` of the
release of arXiv 2602.12323 draws them; ranks, scales and modules are kept.
"""

import torch
from torch import Tensor

from merge.adaptive.model.stacked import Modules, OnDemand
from merge.factors import Factors
from merge.seeds import generator_for


def redrawn(modules: Modules, *, seed: int, name: str) -> Modules:
    """Return an adapter of the same shape and size without content; `name` makes draws differ."""

    def draw(module: str) -> Factors:
        factors, generator = modules[module], generator_for(seed, f"{name}/{module}")
        a, b = _like(factors.a, generator), _like(factors.b, generator)
        return Factors(a, b, factors.scale)

    return OnDemand(modules, draw)


def _like(x: Tensor, generator: torch.Generator) -> Tensor:
    deviation = float(x.double().std(correction=0))
    return torch.randn(x.shape, generator=generator) * deviation
