"""Train the base: a Llama of 1.8 million parameters that knows the skills and a lexicon.

Covered: the configuration, the training loop, the stored files (weights in bfloat16).
Not covered: how good it is (`evaluate.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from tests.lab.batches import accumulate_gradients, make_batch, rate_factor
from tests.lab.language import Draw, draw_explicit, lexicon_draw, make_lexicon, mixed_draw
from tests.lab.tokenizer import build_tokenizer

VOCABULARY_SIZE = 280  # 273 tokens, rounded up to a multiple of eight


@dataclass(frozen=True, slots=True)
class BasePlan:
    """What decides which base comes out."""

    seed: int = 0
    steps: int = 700
    batch_size: int = 256
    warm_up: int = 40
    lexicon_size: int = 200
    matrix_rate: float = 0.02
    other_rate: float = 4e-3


def base_draw(plan: BasePlan) -> Draw:
    """What the base is trained on, and what keeps an adapter from forgetting it."""
    lexicon = make_lexicon(plan.lexicon_size, plan.seed)
    return mixed_draw(draw_explicit, lexicon_draw(lexicon))


def build_model(seed: int) -> LlamaForCausalLM:
    """A fresh model in float32, its initial weights decided by the seed alone."""
    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def make_optimizers(model: LlamaForCausalLM, plan: BasePlan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the embedding and the norms."""
    parameters = dict(model.named_parameters())
    matrices = [value for name, value in parameters.items() if name.endswith("_proj.weight")]
    others = [value for name, value in parameters.items() if not name.endswith("_proj.weight")]
    return [
        torch.optim.Muon(matrices, lr=plan.matrix_rate, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(others, lr=plan.other_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def train_base(plan: BasePlan, report: Callable[[float], None]) -> LlamaForCausalLM:
    """Train a base; `report` is told the loss after every step."""
    tokenizer, model = build_tokenizer(), build_model(plan.seed)
    model.train()
    # At thirty tokens the plain matrix products beat the fused kernel, whose backward is slow.
    model.set_attn_implementation("eager")
    draw, rng = base_draw(plan), Random(f"base/{plan.seed}")
    optimizers = make_optimizers(model, plan)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rate_factor(step, steps=plan.steps, warm_up=plan.warm_up)
        )
        for optimizer in optimizers
    ]
    for _ in range(plan.steps):
        batch = make_batch(tokenizer, draw, plan.batch_size, rng, pieces=2)
        loss = accumulate_gradients(model, batch)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        report(loss)
    return model


def save_base(model: LlamaForCausalLM, folder: Path) -> None:
    """Write weights, configuration and tokenizer the way a hub repository holds them."""
    tokenizer = build_tokenizer()
    # Engines that sample unless told otherwise, as vLLM does, must still answer exactly.
    model.generation_config = GenerationConfig(
        do_sample=True,
        top_k=1,
        max_new_tokens=32,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
