"""Adapters of the tests' tiny base under the skills' names, for tests of what is done with them."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from server.cli.demo_base import BASE_NAME
from tests.lab.merging.adapters import BASE
from tests.lab.skills import SKILLS
from tests.lab.skills.train import Plan, add_adapter, load_base
from tests.lab.train_adapters import save_adapter

LAYERS = (1, 3)  # of the tiny base: as with the real one, not from the first layer on
RANK = 2


def untrained_adapters(root: Path) -> Callable[[str], Path]:
    """Write one adapter of random factors for each skill; return where each is."""
    first = root / next(iter(SKILLS))
    model = add_adapter(load_base(BASE), Plan(rank=RANK, layers=LAYERS))
    save_adapter(model, first, BASE_NAME)
    weights = load_file(first / "adapter_model.safetensors")
    config = (first / "adapter_config.json").read_text()
    for seed, name in enumerate(SKILLS):
        generator = torch.Generator().manual_seed(seed)
        (root / name).mkdir(exist_ok=True)
        (root / name / "adapter_config.json").write_text(config)
        save_file(
            {
                key: 0.05 * torch.randn(w.shape, generator=generator).to(w)
                for key, w in weights.items()
            },
            root / name / "adapter_model.safetensors",
        )
    return lambda name: root / name
