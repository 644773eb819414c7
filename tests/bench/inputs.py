"""What the benchmark merges: random adapters of Llama-3.1-8B's true shapes, made once.

Five of rank 16 on all linear layers, five more that were begun from one seed, and thirty drawn from
the ranks and module sets of a public pool of 960 adapters. Numbers are random (seeded): time and
memory do not depend on them, but for k-means' iterations, those of `ctm`, and parallel MSUs. Not
covered: quality.
"""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load_file, save_file

from merge.peft_format import WEIGHTS_NAME, open_folder
from merge.recipe import Member
from tests.adapters import make_adapter

BASE = "meta-llama/Llama-3.1-8B"
LAYERS = 32
RANK = 16
HIDDEN, KEYS, WIDE, VOCABULARY = 4096, 1024, 14336, 128256
# Linear layers of one block: name -> (d_in, d_out).
BLOCK: Mapping[str, tuple[int, int]] = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN, KEYS),
    "self_attn.v_proj": (HIDDEN, KEYS),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (HIDDEN, WIDE),
    "mlp.up_proj": (HIDDEN, WIDE),
    "mlp.down_proj": (WIDE, HIDDEN),
}
POOL = Path(__file__).parents[1] / "data" / "recycled_pool" / "shapes.json"
# Entries of this size give updates a norm of a few dozen, well below the engine's limit.
_SIZE = 0.008


class Ingredients(NamedTuple):
    """Adapters on disk, ready to be planned and merged."""

    paths: tuple[Path, ...]

    @property
    def digests(self) -> list[str]:
        """Stand-ins for content digests, which a registry has at hand and a benchmark has not."""
        return [f"{i:064x}" for i in range(len(self.paths))]

    @property
    def folders(self) -> dict[str, Path]:
        """Paths by digest."""
        return dict(zip(self.digests, self.paths, strict=True))

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return sum((path / WEIGHTS_NAME).stat().st_size for path in self.paths)

    def first(self, count: int | None) -> "Ingredients":
        """Return the first `count`, or all."""
        return Ingredients(self.paths[:count])

    def members(self) -> list[Member]:
        """Return them as members at equal weights that add up to 1."""
        weight = 1.0 / len(self.paths)
        return [
            Member.from_folder(path.name, open_folder(path), weight, digest, base=BASE)
            for path, digest in zip(self.paths, self.digests, strict=True)
        ]


def all_linear(blocks: int) -> dict[str, tuple[int, int]]:
    """Return (d_in, d_out) of all linear layers of the first blocks."""
    return {
        f"model.layers.{layer}.{name}": shape
        for layer in range(blocks)
        for name, shape in BLOCK.items()
    }


def five(root: Path, *, blocks: int = LAYERS) -> Ingredients:
    """Return five rank-16 all-linear bf16 adapters under `root`, made if missing (84 MB each)."""
    modules = all_linear(blocks)
    paths = [root / f"five-{blocks}" / f"{seed}" for seed in range(5)]
    for seed, path in enumerate(paths):
        _make(path, seed, RANK, modules)
    return Ingredients(tuple(paths))


def kin(root: Path) -> Ingredients:
    """Return five as `five`, begun from one seed: their A are equal up to 2 % of their size.

    Adapters that were trained from one initialisation are like this. Their MSUs are nearly
    parallel, so products of float32 are not exact enough for most methods.
    """
    modules = all_linear(LAYERS)
    begun = root / "five-32" / "0"
    paths = [root / "kin" / f"{seed}" for seed in range(5)]
    for seed, path in enumerate(paths):
        if not path.exists():
            _make(path, 200 + seed, RANK, modules)
            bring_near(path / WEIGHTS_NAME, begun / WEIGHTS_NAME)
    return Ingredients(tuple(paths))


def bring_near(weights: Path, begun: Path) -> None:
    """Replace every A in a file by that of `begun` plus 2 % of its own."""
    tensors, origin = load_file(weights), load_file(begun)
    for name, own in tensors.items():
        if "lora_A" in name:
            tensors[name] = (origin[name].float() + 0.02 * own.float()).to(own.dtype)
    partial = weights.with_suffix(".partial")
    save_file(tensors, partial)
    partial.replace(weights)


def thirty(root: Path) -> Ingredients:
    """Return thirty bf16 adapters with ranks and module sets drawn from the pool, by a fixed seed.

    Drawn are those with a rank of at most 128 (97 % of the pool; engines seldom take more) whose
    modules are linear layers of the blocks or the language model's head. About 4 GB.
    """
    known = {name.rpartition(".")[2] for name in BLOCK} | {"lm_head"}
    usable = [
        kind
        for kind in json.loads(POOL.read_text())
        if kind["r"] <= 128 and set(kind["target_modules"]) <= known
    ]
    drawn = random.Random(0).choices(usable, [kind["count"] for kind in usable], k=30)
    paths = [root / "thirty" / f"{seed}" for seed in range(30)]
    everything = {**all_linear(LAYERS), "lm_head": (HIDDEN, VOCABULARY)}
    for seed, (path, kind) in enumerate(zip(paths, drawn, strict=True)):
        modules = {
            name: shape
            for name, shape in everything.items()
            if name.rpartition(".")[2] in kind["target_modules"]
        }
        _make(path, 100 + seed, kind["r"], modules)
    return Ingredients(tuple(paths))


def _make(path: Path, seed: int, rank: int, modules: Mapping[str, tuple[int, int]]) -> None:
    if not path.exists():
        partial = path.with_name(f".{path.name}.partial")
        make_adapter(
            partial, seed=seed, rank=rank, alpha=float(rank), modules=modules, dtype="bfloat16",
            base=BASE, size=_SIZE,
        )  # fmt: skip
        partial.rename(path)
