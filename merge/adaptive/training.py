"""The training loop that coefficients and fresh LoRAs share.

AdamW, cosine with warm-up, best state by validation loss (arXiv 2602.12323 and its release; the
clipping at 1.0 is its trainer's default). The order of the examples follows from the seed alone,
and a run that was stopped goes on from its last evaluation with the numbers that it would have had.
Not covered: what is trained (`coefficients`, `fresh`), and what the result is worth (`scoring`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import get_cosine_schedule_with_warmup

from merge.adaptive.checkpoints import State, load_state, save_state
from merge.adaptive.model.hooks import Updates, attached
from merge.adaptive.model.memory import STEP_TOKENS
from merge.adaptive.scoring.examples import Example, collate, pieces
from merge.adaptive.scoring.losses import answer_tokens, measure_losses, nll
from merge.seeds import generator_for

_BETAS = (0.9, 0.999)
_CLIP = 1.0


class LossNotFinite(ArithmeticError):
    """Training met NaN or infinity; the last good checkpoint is kept."""

    def __init__(self, stage: str, step: int, what: str, kept: int | None) -> None:
        self.step = step
        good = "none was good before" if kept is None else f"the state of step {kept} is kept"
        super().__init__(f"{stage}: {what} at step {step} is not finite; {good}: lower the rate")


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast; the defaults are those of the paper's coefficients."""

    steps: int = 100
    learning_rate: float = 5e-2
    batch_size: int = 8
    warm_up: float = 0.1  # of the steps
    evaluate_every: int = 10
    l1: float = 0.0  # times Σ|w| of all trained numbers
    seed: int = 0


class Progress(NamedTuple):
    """Where a run is. Losses are nats per answer token; `valid_loss` at evaluations only."""

    stage: str
    step: int
    steps: int
    train_loss: float | None = None
    valid_loss: float | None = None


Watch = Callable[[Progress], None]
"""Told of every step; what it raises ends the run."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run: the updates hold the state of `best_step`."""

    best_step: int
    best_loss: float | None  # on the validation examples; None without any
    curve: tuple[tuple[int, float, float | None], ...]  # step, train loss, validation loss


@dataclass(frozen=True, slots=True)
class Run:
    """One training: what is trained on what, and where its checkpoint lies."""

    stage: str
    model: Any  # frozen, in evaluation mode
    updates: Updates
    train: Sequence[Example]
    validation: Sequence[Example]
    schedule: Schedule
    watch: Watch
    checkpoint: Path | None = None

    def __call__(self) -> Trained:
        """Train, or go on training; afterwards the updates hold the best state.

        Raises:
            LossNotFinite: with the step; the best state before is in the updates.
        """
        device = next(self.model.parameters()).device
        self.updates.to(device).eval()  # also where no step is left: dropout is for steps alone
        parameters = [p for p in self.updates.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            parameters, lr=self.schedule.learning_rate, betas=_BETAS, weight_decay=0.0
        )
        warm_up = math.ceil(self.schedule.warm_up * self.schedule.steps)
        rates = get_cosine_schedule_with_warmup(optimizer, warm_up, self.schedule.steps)
        state = load_state(self.checkpoint, self.updates, optimizer, rates) or State()
        with attached(self.model, self.updates):
            for step in range(state.step + 1, self.schedule.steps + 1):
                self.updates.begin(step)
                self.updates.train()
                loss = self._step(parameters, step, state)
                self.updates.eval()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                rates.step()
                valid = self._evaluate(step, loss, state, parameters)
                self.watch(Progress(self.stage, step, self.schedule.steps, loss, valid))
                if self._is_stop(step):
                    save_state(self.checkpoint, state, self.updates, optimizer, rates)
        state.put_best(self.updates)
        return Trained(state.best_step or 0, state.best_loss, tuple(state.curve))

    def _is_stop(self, step: int) -> bool:
        return step % self.schedule.evaluate_every == 0 or step == self.schedule.steps

    def _step(self, parameters: Sequence[Tensor], step: int, state: State) -> float:
        """Put the gradient of one batch's mean loss into the parameters; return that loss."""
        batch = [self.train[at] for at in batch_of(len(self.train), self.schedule, step)]
        tokens, device = sum(map(answer_tokens, batch)), parameters[0].device
        total = 0.0
        for group in pieces(batch, STEP_TOKENS):
            part = collate([batch[at] for at in group], device)
            loss = nll(self.model, part).sum() / tokens
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        if self.schedule.l1:
            penalty = self.schedule.l1 * torch.stack([p.abs().sum() for p in parameters]).sum()
            penalty.backward()  # type: ignore[no-untyped-call]
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, _CLIP))
        if not (math.isfinite(total) and math.isfinite(norm)):
            state.put_best(self.updates)
            what = "the gradient" if math.isfinite(total) else "the loss"
            raise LossNotFinite(self.stage, step, what, state.best_step)
        return total

    def _evaluate(
        self, step: int, loss: float, state: State, parameters: Sequence[Tensor]
    ) -> float | None:
        """Note a step; at an evaluation, keep the state if it is the best so far."""
        valid = None
        if self._is_stop(step):
            if not all(bool(p.isfinite().all()) for p in parameters):
                state.put_best(self.updates)
                raise LossNotFinite(self.stage, step, "a parameter", state.best_step)
            if self.validation:
                valid = measure_losses(self.model, self.validation).mean
            state.keep_best(step, valid, self.updates)
        state.step = step
        state.curve.append((step, loss, valid))
        return valid


def tokens_shown(examples: Sequence[Example], schedule: Schedule) -> int:
    """Return how many tokens a whole training reads, every example as often as it is shown."""
    steps = range(1, schedule.steps + 1)
    shown = (at for step in steps for at in batch_of(len(examples), schedule, step))
    return sum(len(examples[at].tokens) for at in shown)


def batch_of(examples: int, schedule: Schedule, step: int) -> list[int]:
    """Return the examples of a step, counted from 1: epochs of permutations, one after another."""
    first = (step - 1) * schedule.batch_size
    found: list[int] = []
    while len(found) < schedule.batch_size:
        epoch, at = divmod(first + len(found), examples)
        order = torch.randperm(examples, generator=generator_for(schedule.seed, f"epoch/{epoch}"))
        found += order[at : at + schedule.batch_size - len(found)].tolist()
    return found
