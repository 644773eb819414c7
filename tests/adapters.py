"""Small random PEFT adapters for tests, written with `safetensors` and `json` alone.

Independent of weft's own writer on purpose, so that reader and writer cannot share a mistake.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

BASE = "tests/tiny-llama"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# Linear layers of the tiny Llama in `tests/merge/llama.py`: module -> (d_in, d_out).
MODULES: Mapping[str, tuple[int, int]] = {
    "model.layers.0.self_attn.q_proj": (16, 16),
    "model.layers.0.self_attn.v_proj": (16, 8),
    "model.layers.0.mlp.gate_proj": (16, 24),
    "model.layers.1.self_attn.q_proj": (16, 16),
    "model.layers.1.mlp.down_proj": (24, 16),
}


def make_adapter(
    path: Path,
    *,
    seed: int = 0,
    rank: int = 4,
    alpha: float = 8.0,
    modules: Mapping[str, tuple[int, int]] = MODULES,
    dtype: str = "float32",
    use_rslora: bool = False,
    rank_pattern: Mapping[str, int] | None = None,
    alpha_pattern: Mapping[str, float] | None = None,
    base: str | None = BASE,
    size: float = 0.3,
) -> Path:
    """Write a random adapter into the new folder `path` and return `path`.

    Args:
        path: made with its parents.
        seed: of every tensor, together with its position.
        rank: r of the config, where `rank_pattern` (full module names) says nothing else.
        alpha: lora_alpha of the config; `alpha_pattern` overrides it by module.
        modules: (d_in, d_out) by module name.
        dtype: of the tensors in the file.
        use_rslora: scale alpha / √r instead of alpha / r.
        rank_pattern: ranks by full module name.
        alpha_pattern: alphas by full module name.
        base: base_model_name_or_path.
        size: standard deviation of the entries.
    """
    path.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for name, (d_in, d_out) in modules.items():
        r = (rank_pattern or {}).get(name, rank)
        for side, shape in (("A", (r, d_in)), ("B", (d_out, r))):
            x = torch.randn(shape, generator=generator) * size
            tensors[f"base_model.model.{name}.lora_{side}.weight"] = x.to(DTYPES[dtype])
    write_folder(
        path,
        tensors,
        r=rank,
        lora_alpha=alpha,
        use_rslora=use_rslora,
        rank_pattern=dict(rank_pattern or {}),
        alpha_pattern=dict(alpha_pattern or {}),
        base_model_name_or_path=base,
        target_modules=sorted(modules),
    )
    return path


def write_folder(path: Path, tensors: Mapping[str, Tensor], **config: object) -> None:
    """Write tensors under the names given, and a LoRA config with these keys over the defaults."""
    path.mkdir(parents=True, exist_ok=True)
    document: dict[str, object] = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none", "inference_mode": True,
        "lora_dropout": 0.0, "r": 4, "lora_alpha": 8, "use_rslora": False, "target_modules": [],
        "base_model_name_or_path": BASE,
    }  # fmt: skip
    (path / "adapter_config.json").write_text(json.dumps(document | config))
    save_file(dict(tensors), path / "adapter_model.safetensors", metadata={"format": "pt"})
