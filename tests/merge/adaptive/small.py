"""Small inputs of a job: random examples and adapters for the tiny random Llama."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from merge.adaptive.model.coefficients import Coefficients, Gated
from merge.adaptive.model.stacked import Modules, read_modules, stack
from merge.adaptive.options import Design
from merge.adaptive.scoring.examples import IGNORED, Example
from merge.factors import Factors
from merge.peft_format import open_folder
from tests.adapters import make_adapter


def random_examples(n: int, seed: int) -> list[Example]:
    """Return examples of 6 to 12 tokens that end with the answer."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(n):
        length = int(torch.randint(6, 13, (1,), generator=generator))
        tokens = torch.randint(1, 32, (length,), generator=generator).tolist()
        asked = length - int(torch.randint(2, 5, (1,), generator=generator))
        labels = [IGNORED] * asked + tokens[asked:]
        found.append(Example(tuple(tokens), tuple(labels), tuple(tokens[:asked]), "answer"))
    return found


def random_adapters(root: Path) -> list[Modules]:
    """Return three adapters of mixed ranks and scales; the second lacks modules."""
    folders = [
        make_adapter(root / "a", seed=1, rank=4),
        make_adapter(
            root / "b", seed=2, rank=2, alpha=3.0,
            modules={"model.layers.0.mlp.gate_proj": (16, 24),
                     "model.layers.1.mlp.down_proj": (24, 16)},
        ),
        make_adapter(root / "c", seed=3, rank=6, use_rslora=True),
    ]  # fmt: skip
    return [read_modules(open_folder(folder)) for folder in folders]


def gated(adapters: Sequence[Modules], design: Design | None = None) -> Gated:
    """Return the adapters with coefficients."""
    layers, layout = stack(adapters)
    return Gated(layers, Coefficients(layout, design or Design()))


def dense(factors: Factors) -> Tensor:
    """Return the update, (d_out, d_in) float64."""
    return factors.scale * factors.b.double() @ factors.a.double()
