"""The same work by scikit-learn and PEFT, on a few modules, scaled up to all.

A scale-up multiplies by how much more arithmetic all modules are than those measured, by the
cheapest count that the work can have, so it errs in the peer's favour. All threads that a peer
takes by itself are left to it. Reading files is outside the peers' clocks and inside ours.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from merge.factors import Factors, Stack
from merge.kmeans import kmeans
from merge.linalg import truncated_sum
from merge.peft_format import open_folder
from merge.peft_io import read_peft
from tests.bench.inputs import BLOCK, LAYERS, RANK, Ingredients

Shape = tuple[int, int]


def stack_of(ingredients: Ingredients, name: str) -> Stack:
    """Return one module of all ingredients at equal weights."""
    folders = [open_folder(path) for path in ingredients.paths]
    members = tuple(read_peft(folder, folder.modules[name]) for folder in folders)
    return Stack(name, members, (1.0 / len(members),) * len(members))


def names_of(ingredients: Ingredients) -> list[str]:
    """Return the modules of the first ingredient."""
    return list(open_folder(ingredients.paths[0]).modules)


def sklearn_lego(ingredients: Ingredients, count: int) -> dict[str, float]:
    """Return the seconds of LEGO by scikit-learn's k-means (n_init 10), and how inertias compare.

    Measured on `count` modules at even distances; scaled by vector length. Inertias are ours over
    theirs, on the same modules.
    """
    names = names_of(ingredients)
    chosen = names[:: max(1, len(names) // count)][:count]
    seconds, width, ratios = 0.0, 0, []
    for i, name in enumerate(chosen):
        stack = stack_of(ingredients, name)
        a = torch.cat([f.a for f in stack.members])
        b = torch.cat([f.b for f in stack.members], dim=1)
        z = torch.cat([a, b.mT], dim=1).numpy()  # (R, d_in + d_out)
        begin = time.perf_counter()
        theirs = KMeans(RANK, n_init=10, random_state=i).fit(z)
        seconds += time.perf_counter() - begin
        width += z.shape[1]
        ours = kmeans(
            a @ a.mT + b.mT @ b, torch.ones(len(z), dtype=torch.float64), RANK,
            generator=torch.Generator().manual_seed(i),
        )  # fmt: skip
        ratios.append(ours.inertia / theirs.inertia_)
    whole = LAYERS * sum(d_in + d_out for d_in, d_out in BLOCK.values())
    return {
        "sklearn_lego_s": seconds * whole / width,
        "lego_inertia_mean_ratio": sum(ratios) / len(ratios),
        "lego_inertia_worst_ratio": max(ratios),
    }


def peft_svd(
    ingredients: Ingredients, names: Sequence[str], kind: str, **options: Any
) -> tuple[float, float]:
    """Return PEFT's scaled seconds and the largest relative difference of singular values to ours.

    Scaled by d_in · d_out · min(d_in, d_out), which a thin SVD takes; PEFT's is a full one. The
    difference is of use for the kind "svd" alone.
    """
    stacks = {name: stack_of(ingredients, name) for name in names}
    seconds, updates = _peft(stacks, kind, svd_rank=RANK, **options)
    worst = 0.0
    for name, stack in stacks.items():
        theirs = _singular_values(updates[name])
        sigma = _singular_values(truncated_sum(stack.members, stack.weights, RANK).factors)
        worst = max(worst, float(((sigma - theirs) / sigma).abs().max()))
    return _scaled(seconds, names, lambda d_in, d_out: d_in * d_out * min(d_in, d_out)), worst


def _singular_values(f: Factors) -> Tensor:
    values: Tensor = torch.linalg.svdvals(torch.linalg.qr(f.b.double()).R @ f.a.double())
    return values


def peft_thin(ingredients: Ingredients, kind: str) -> float:
    """Return PEFT's seconds for "linear" or "cat", on one block, scaled."""
    names = [name for name in names_of(ingredients) if name.startswith("model.layers.0.")]
    stacks = {name: stack_of(ingredients, name) for name in names}
    seconds, _ = _peft(stacks, kind)
    return _scaled(seconds, names, lambda d_in, d_out: d_in + d_out)


def _scaled(seconds: float, names: Sequence[str], work: Callable[[int, int], int]) -> float:
    measured = sum(work(*BLOCK[name.split(".", 3)[3]]) for name in names)
    return seconds * LAYERS * sum(work(*shape) for shape in BLOCK.values()) / measured


def _peft(stacks: dict[str, Stack], kind: str, **options: Any) -> tuple[float, dict[str, Factors]]:
    """Merge the stacks by PEFT; return its seconds and the factors it made."""
    from peft import LoraConfig, get_peft_model

    base = nn.Module()
    short = {name: f"m{i}" for i, name in enumerate(stacks)}
    for name, stack in stacks.items():
        f = stack.members[0]
        base.add_module(short[name], nn.Linear(f.a.shape[1], f.b.shape[0], bias=False))
    adapters = [f"adapter{i}" for i in range(len(next(iter(stacks.values())).members))]
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(short.values()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = get_peft_model(base, config, adapter_name=adapters[0])
        for adapter in adapters[1:]:
            model.add_adapter(adapter, config)
    layers = {name: getattr(model.base_model.model, short[name]) for name in stacks}
    for name, stack in stacks.items():
        for adapter, f in zip(adapters, stack.members, strict=True):
            layers[name].lora_A[adapter].weight.data = f.a
            layers[name].lora_B[adapter].weight.data = f.b
    weights = list(next(iter(stacks.values())).weights)
    begin = time.perf_counter()
    model.add_weighted_adapter(adapters, weights, "merged", combination_type=kind, **options)
    seconds = time.perf_counter() - begin
    return seconds, {name: _factors(layer) for name, layer in layers.items()}


def _factors(layer: Any) -> Factors:
    a: Tensor = layer.lora_A["merged"].weight.data
    b: Tensor = layer.lora_B["merged"].weight.data
    return Factors(a, b, layer.scaling["merged"])
