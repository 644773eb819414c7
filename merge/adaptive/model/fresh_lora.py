"""A LoRA newly trained on the same examples: the control that a merge must beat.

y = W₀x + (alpha / r) · B A dropout(x), A Kaiming-uniform, B zero (arXiv 2106.09685, initialised as
in PEFT). Hyper-parameters as the recycling paper's target LoRA (arXiv 2602.12323, §C.2): rank 64,
alpha 16, dropout 0.1, all linear modules of the layers.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from merge.adaptive.model.hooks import Updates
from merge.factors import Factors
from merge.seeds import generator_for


@dataclass(frozen=True, slots=True)
class FreshPlan:
    """The hyper-parameters of a new LoRA, besides its schedule."""

    rank: int = 64
    alpha: float = 16.0
    dropout: float = 0.1
    seed: int = 0

    @property
    def scale(self) -> float:
        """The factor on the update."""
        return self.alpha / self.rank


class FreshLayer(nn.Module):
    """One module's trainable factors: `a` (r, d_in) and `b` (d_out, r), float32."""

    def __init__(self, name: str, d_in: int, d_out: int, plan: FreshPlan, draws: "_Draws") -> None:
        super().__init__()
        bound = 1 / math.sqrt(d_in)  # Kaiming-uniform with a = √5
        drawn = torch.rand(plan.rank, d_in, generator=generator_for(plan.seed, name))
        self.a = nn.Parameter((2 * drawn - 1) * bound)
        self.b = nn.Parameter(torch.zeros(d_out, plan.rank))
        self.scale, self._dropout, self._draws = plan.scale, plan.dropout, draws

    def forward(self, x: Tensor) -> Tensor:
        """Return the update (…, d_out) of an input (…, d_in)."""
        # The factors are float32 whatever the base is: the input is widened, not the factors cut.
        seen = x.to(self.a.dtype)
        if self.training and self._dropout:
            # Not nn.Dropout: its global generator cannot be restored by step when a run resumes.
            kept = self._draws.uniform(seen) >= self._dropout
            seen = seen * kept / (1 - self._dropout)
        return (seen @ self.a.T @ self.b.T) * self.scale


class _Draws:
    """The random numbers of dropout, from a generator that is seeded anew at each step."""

    def __init__(self, seed: int) -> None:
        self._seed, self._step = seed, 0
        self._generator: torch.Generator | None = None

    def begin(self, step: int) -> None:
        """Start a step: its draws depend on the seed and the step's number alone."""
        self._step, self._generator = step, None

    def uniform(self, like: Tensor) -> Tensor:
        """Return numbers in [0, 1), shaped and placed as `like`."""
        if self._generator is None:
            start = generator_for(self._seed, f"dropout/{self._step}").initial_seed()
            self._generator = torch.Generator(like.device).manual_seed(start)
        return torch.rand(like.shape, generator=self._generator, device=like.device)


class Fresh(Updates):
    """A trainable LoRA on the linear modules of a base."""

    def __init__(self, widths: Mapping[str, tuple[int, int]], plan: FreshPlan) -> None:
        """Begin one; `widths` are (d_in, d_out) by module."""
        self._draws = _Draws(plan.seed)
        super().__init__(
            {name: FreshLayer(name, *widths[name], plan, self._draws) for name in widths}
        )

    def begin(self, step: int) -> None:
        """See `Updates`."""
        self._draws.begin(step)

    @torch.no_grad()
    def modules_now(self) -> dict[str, Factors]:
        """Return a copy of the factors by module, on the CPU."""
        modules = {}
        for name, layer in self.layers().items():
            assert isinstance(layer, FreshLayer)
            a, b = layer.a.detach().to("cpu", copy=True), layer.b.detach().to("cpu", copy=True)
            modules[name] = Factors(a, b, layer.scale)
        return modules


def linear_widths(model: Any, names: Iterable[str] | None = None) -> dict[str, tuple[int, int]]:
    """Return (d_in, d_out) of the linear modules in the base's layers, or of those in `names`."""
    wanted = None if names is None else frozenset(names)
    return {
        name: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and (".layers." in f".{name}" if wanted is None else name in wanted)
    }
