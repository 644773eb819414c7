"""Train one skill's adapter with PEFT; it may be stopped at any time and goes on where it was.

Covered: what is trained, a step, checkpoints, the stored files (bfloat16).
Not covered: how good the adapters are (`evaluate.py`).
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, DynamicCache, LlamaForCausalLM, PreTrainedTokenizerBase

from merge.peft_format.atomic_files import atomic_file, write_atomic
from server.cli.demo_base import BASE_NAME
from tests.lab.batches import rate_factor
from tests.lab.skills import SKILLS
from tests.lab.skills.chat import IGNORED_LABEL, Batch, make_batch
from tests.lab.skills.skill import Skill
from tests.lab.train_adapters import save_adapter

ALL_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# Every second layer of the upper two thirds: eight adapters of all layers would take 39 MB.
LAYERS = tuple(range(9, 30, 2))
CHECKPOINT_SECONDS = 120.0
CHECKPOINT_STEPS = 10
EXAMPLES_COMPARED = 32  # of validation, for the loss that is reported


@dataclass(frozen=True, slots=True)
class Plan:
    """What decides which adapter comes out, besides the base and the skill."""

    steps: int = 300
    batch_size: int = 8
    seed: int = 1
    rank: int = 8
    alpha: int = 16
    rate: float = 1e-3
    warm_up: int = 10
    modules: tuple[str, ...] = ALL_MODULES
    layers: tuple[int, ...] = LAYERS


# Steps by skill: a sentence that is copied with a few changes takes fewer than SQL.
PLANS = {
    name: Plan(steps=steps)
    for name, steps in {
        "triage": 150, "mask": 150, "iso": 240, "extract": 200, "spanish": 300, "style": 200,
        "sql": 320, "table": 150,
    }.items()
}  # fmt: skip


@dataclass(slots=True)
class Course:
    """How far a training has come, and what it took."""

    step: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    tokens: int = 0
    loss: float = 0.0  # a moving average of the last twenty steps or so


class Training:
    """One adapter in training, with the optimizer's state."""

    def __init__(self, base: Path, skill: Skill, plan: Plan, folder: Path) -> None:
        """Start, or go on from the checkpoint in the folder."""
        self.skill, self.plan, self.folder = skill, plan, folder
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base)
        self.model = add_adapter(load_base(base), plan)
        self.model.train()
        self.weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, lr=plan.rate, weight_decay=0.0)
        self.course = Course()
        self.path = folder / "checkpoint.pt"
        if self.path.exists():
            self._restore(torch.load(self.path, weights_only=True))

    def run(self, report: Callable[[Course], None]) -> None:
        """Train to the end of the plan; `report` is told of every step."""
        saved = time.monotonic()
        while self.course.step < self.plan.steps:
            self._step()
            report(self.course)
            due = time.monotonic() - saved > CHECKPOINT_SECONDS
            if due or self.course.step % CHECKPOINT_STEPS == 0:
                self.save()
                saved = time.monotonic()
        self.save()

    def save(self) -> None:
        """Write the checkpoint: whole or not at all."""
        state = {
            "plan": json.dumps(asdict(self.plan)),
            "course": asdict(self.course),
            "weights": [weight.detach() for weight in self.weights],
            "optimizer": self.optimizer.state_dict(),
        }
        buffer = BytesIO()
        torch.save(state, buffer)
        with atomic_file(self.path) as file:
            file.write(buffer.getbuffer())

    def _restore(self, state: dict[str, Any]) -> None:
        if state["plan"] != json.dumps(asdict(self.plan)):
            raise ValueError(f"{self.path} is of another plan: remove it to begin again")
        self.course = Course(**state["course"])
        self.optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            for weight, value in zip(self.weights, state["weights"], strict=True):
                weight.copy_(value)

    def _step(self) -> None:
        started, cpu = time.monotonic(), time.process_time()
        plan, course = self.plan, self.course
        rng = Random(f"{self.skill.name}/{plan.seed}/{course.step}")
        batch = make_batch(
            self.tokenizer, [self.skill.draw(rng, "train") for _ in range(plan.batch_size)]
        )
        factor = rate_factor(course.step, steps=plan.steps, warm_up=plan.warm_up)
        for group in self.optimizer.param_groups:
            group["lr"] = plan.rate * factor
        loss = answer_loss(self.model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        course.loss = loss.item() if not course.step else 0.95 * course.loss + 0.05 * loss.item()
        course.step += 1
        course.tokens += batch.tokens.numel()
        course.seconds += time.monotonic() - started
        course.cpu_seconds += time.process_time() - cpu


def load_base(folder: Path) -> LlamaForCausalLM:
    """The base in float32: this and the products' rounding are what the demo's engine uses too."""
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)


def add_adapter(base: LlamaForCausalLM, plan: Plan) -> PeftModel:
    """A fresh adapter on the base, its initial weights decided by the plan's seed alone."""
    config = LoraConfig(
        r=plan.rank,
        lora_alpha=plan.alpha,
        target_modules=list(plan.modules),
        layers_to_transform=list(plan.layers),
        layers_pattern="layers",
        task_type=TaskType.CAUSAL_LM,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        return get_peft_model(base, config)


def answer_loss(model: PeftModel, batch: Batch) -> Tensor:
    """The mean loss per token of the answers; the last layer is computed for these alone.

    All rows begin with the template's system message, a quarter of their tokens: what they have in
    common is computed once.
    """
    causal = model.get_base_model()
    common = common_length(batch.tokens)
    cache = DynamicCache(config=causal.config)
    causal.model(input_ids=batch.tokens[:1, :common], past_key_values=cache)
    cache.batch_repeat_interleave(len(batch.tokens))
    hidden = causal.model(input_ids=batch.tokens[:, common:], past_key_values=cache)
    labels = batch.labels[:, common:]
    wanted = labels != IGNORED_LABEL
    return cross_entropy(causal.lm_head(hidden.last_hidden_state[wanted]), labels[wanted])


def common_length(tokens: Tensor) -> int:
    """How many tokens all rows begin with, the last column aside."""
    alike = (tokens == tokens[:1]).all(0)[:-1]
    return int(alike.long().cumprod(0).sum())


@torch.inference_mode()
def validation_loss(training: Training) -> float:
    """The loss on examples of the validation split."""
    examples = training.skill.examples("validation", EXAMPLES_COMPARED, seed=1)
    training.model.eval()
    loss = answer_loss(training.model, make_batch(training.tokenizer, examples)).item()
    training.model.train()
    return float(loss)


def train_skill(base: Path, name: str, work: Path, report: Callable[[Course], None]) -> Path:
    """Train the adapter of a skill, unless it is there; return its folder."""
    folder = work / name
    if (folder / "figures.json").exists():
        return folder / "adapter"
    training = Training(base, SKILLS[name], PLANS[name], folder)
    training.run(report)
    save_adapter(training.model, folder / "adapter", BASE_NAME)
    figures = {
        **asdict(training.plan), **asdict(training.course),
        "validation_loss": validation_loss(training),
    }  # fmt: skip
    write_atomic(folder / "figures.json", json.dumps(figures, indent=2) + "\n")
    return folder / "adapter"
