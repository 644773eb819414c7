"""The tiny random Llama that test adapters fit, and PEFT's own opinion of an adapter folder."""

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

TOKENS = torch.tensor([[1, 5, 9, 2, 7, 11, 3, 4]])


@cache
def _state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    state: dict[str, Tensor] = LlamaForCausalLM(_config()).state_dict()
    return state


def _config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=32,
    )  # fmt: skip


def tiny_llama() -> Any:
    """Return a fresh float32 model with the same weights every time."""
    model = LlamaForCausalLM(_config())
    model.load_state_dict(_state())
    return model.eval()


def load_in_peft(folder: Path, name: str = "default") -> Any:
    """Load an adapter on the tiny Llama; a missing or unexpected key fails the test."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(missing|unexpected).*keys.*")
        return PeftModel.from_pretrained(tiny_llama(), folder, adapter_name=name).eval()


def peft_updates(model: Any, name: str = "default") -> dict[str, Tensor]:
    """Return PEFT's update of every adapted module, (d_out, d_in) float64."""
    return {
        path.removeprefix("base_model.model."): layer.lora_B[name].weight.double()
        @ layer.lora_A[name].weight.double()
        * layer.scaling[name]
        for path, layer in model.named_modules()
        if name in getattr(layer, "lora_A", ())
    }


def logits(model: Any) -> Tensor:
    """Return the model's logits on a fixed prompt."""
    with torch.no_grad():
        out: Tensor = model(TOKENS).logits
    return out
