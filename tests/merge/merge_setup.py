"""Adapters on disk with a recipe over them, for tests that run whole merges."""

from collections.abc import Mapping
from pathlib import Path

import torch

from merge.methods import METHODS
from merge.peft_format import digest_folder, open_folder
from merge.recipe import Member, Recipe, plan
from merge.report import Report
from merge.run import merge
from tests.adapters import BASE, MODULES, make_adapter
from tests.merge.llama import load_in_peft, peft_updates


class MergeSetup:
    """Adapters on disk and a recipe over them."""

    def __init__(self, root: Path, paths: list[Path], weights: list[float]) -> None:
        self.root = root
        self.paths = paths
        self.digests = [digest_folder(path) for path in paths]
        self.folders: Mapping[str, Path] = dict(zip(self.digests, paths, strict=True))
        self.members = [
            Member.from_folder(path.name, open_folder(path), weight, digest)
            for path, weight, digest in zip(paths, weights, self.digests, strict=True)
        ]

    def recipe(self, method: str, *, dtype: str = "float32", **options: object) -> Recipe:
        """Plan a merge of all adapters."""
        return plan(method, self.members, options=options, base=BASE, dtype=dtype, rank_limit=64)

    def merge(self, recipe: Recipe) -> Report:
        """Merge into the folder "out"."""
        return merge(recipe, self.folders, self.root / "out")

    def left(self) -> list[str]:
        """Return the names of all entries under the root that are not ingredients."""
        return sorted(p.name for p in self.root.iterdir() if p not in self.paths)


def three_adapters(root: Path) -> MergeSetup:
    """Return three adapters of mixed ranks, alphas, dtypes and module sets."""
    few = dict(list(MODULES.items())[:3])
    paths = [
        make_adapter(root / "a", seed=1, rank=4),
        make_adapter(root / "b", seed=2, rank=2, alpha=3.0, modules=few, dtype="bfloat16"),
        make_adapter(root / "c", seed=3, rank=6, use_rslora=True),
    ]
    return MergeSetup(root, paths, [1.0, -0.5, 0.25])


def suiting(merge_setup: MergeSetup, method: str) -> MergeSetup:
    """Return the setup, cut and changed to meet the method's requirements of its members."""
    requirements = METHODS[method].requirements
    paths, weights = merge_setup.paths, [1.0, -0.5, 0.25]
    if requirements.positive_weights:
        weights = [abs(weight) for weight in weights]
    if requirements.equal_ranks:
        paths = [make_adapter(merge_setup.root / f"{seed}", seed=seed, rank=4) for seed in range(3)]
    return MergeSetup(
        merge_setup.root, paths[: requirements.members], weights[: requirements.members]
    )


def exact_sum(merge_setup: MergeSetup) -> dict[str, torch.Tensor]:
    """Return Σ weight · PEFT's update, (d_out, d_in) float64, by module."""
    total: dict[str, torch.Tensor] = {}
    for path, member in zip(merge_setup.paths, merge_setup.members, strict=True):
        for name, x in peft_updates(load_in_peft(path)).items():
            total[name] = total.get(name, torch.zeros_like(x)) + member.weight * x
    return total
