"""Train the adapters of the demo with PEFT: one task each, on the stored base.

Covered: what is trained for each adapter, the training loop, the stored files (bfloat16).
Not covered: how good they are (`evaluate.py`), their cards (`cards.py`).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

from tests.lab.batches import accumulate_gradients, make_batch, rate_factor
from tests.lab.language import TASKS, Draw, mixed_draw
from tests.lab.tokenizer import build_tokenizer

BASE_NAME = "weft/demo-llama"  # what the stored adapters name as their base: never a path
ALL_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class AdapterPlan:
    """What decides which adapter comes out, besides the base."""

    name: str
    seed: int
    rank: int = 8
    alpha: int = 16
    use_rslora: bool = False
    modules: tuple[str, ...] = ALL_MODULES
    steps: int = 120
    batch_size: int = 64
    warm_up: int = 10
    rate: float = 3e-3


# Two differ from the rest, as adapters of different origin do: another rank, another scale
# (4 / sqrt(4) = 2, 16 / 16 = 1; the others 16 / 8 = 2), one module fewer.
PLANS = {
    plan.name: plan
    for plan in (
        AdapterPlan("zorp", seed=1),
        AdapterPlan("blim", seed=2),
        AdapterPlan("frob", seed=3),
        AdapterPlan("glix", seed=4),
        AdapterPlan("dwen", seed=5),
        AdapterPlan(
            "plov",
            seed=6,
            rank=16,
            modules=tuple(module for module in ALL_MODULES if module != "k_proj"),
        ),
        AdapterPlan("krun", seed=7),
        AdapterPlan("tref", seed=8, rank=4, alpha=4, use_rslora=True),
    )
}


def add_adapter(base: LlamaForCausalLM, plan: AdapterPlan) -> PeftModel:
    """A fresh adapter on the base, its initial weights decided by the plan's seed alone."""
    config = LoraConfig(
        r=plan.rank,
        lora_alpha=plan.alpha,
        use_rslora=plan.use_rslora,
        target_modules=list(plan.modules),
        task_type=TaskType.CAUSAL_LM,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        return get_peft_model(base, config)


def train_adapter(
    base_folder: Path, plan: AdapterPlan, replay: Draw, report: Callable[[float], None]
) -> PeftModel:
    """Train one adapter; half of what it sees is `replay`, so that it leaves the rest alone."""
    base = LlamaForCausalLM.from_pretrained(
        base_folder, dtype=torch.float32, attn_implementation="eager"
    )
    model = add_adapter(base, plan)
    model.train()
    tokenizer, draw = build_tokenizer(), mixed_draw(TASKS[plan.name].draw, replay)
    rng = Random(f"adapter/{plan.name}/{plan.seed}")
    optimizer = torch.optim.AdamW(
        [weight for weight in model.parameters() if weight.requires_grad], lr=plan.rate
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate_factor(step, steps=plan.steps, warm_up=plan.warm_up)
    )
    for _ in range(plan.steps):
        batch = make_batch(tokenizer, draw, plan.batch_size, rng, pieces=1)
        loss = accumulate_gradients(model, batch)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        report(loss)
    return model


def save_adapter(model: PeftModel, folder: Path, base: str = BASE_NAME) -> None:
    """Write the two files PEFT reads, byte for byte the same for the same adapter of the base."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = get_peft_model_state_dict(model)
    save_file(
        {name: weight.to(torch.bfloat16).contiguous() for name, weight in weights.items()},
        folder / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    config = model.peft_config["default"]
    config.base_model_name_or_path = base
    config.inference_mode = True
    config.save_pretrained(folder)
    path = folder / "adapter_config.json"
    fields = json.loads(path.read_text())
    fields["target_modules"].sort()  # PEFT keeps a set, whose order changes between processes
    path.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")
