"""The training loop that coefficients and fresh LoRAs share.

AdamW, cosine with warm-up, best state by validation loss (arXiv 2602.12323 and its release; the
clipping at 1.0 is its trainer's default). The order of the examples follows from the seed alone,
and a run that was stopped resumes from its last evaluation and computes the same numbers as one
that was not. Not covered: the trained modules (`model`) and the score of the result (`scoring`).
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
        good = "there is no earlier state" if kept is None else f"the state of step {kept} is kept"
        super().__init__(
            f"{stage}: {what} at step {step} is not finite; {good}: lower the learning rate"
        )


@dataclass(frozen=True, slots=True)
class Schedule:
    """Length and rate of a training; the defaults are the paper's, for coefficients."""

    steps: int = 100
    learning_rate: float = 5e-2
    batch_size: int = 8
    warm_up: float = 0.1  # of the steps
    evaluate_every: int = 10
    l1: float = 0.0  # times Σ|w| of all trained numbers
    seed: int = 0


class Progress(NamedTuple):
    """The progress of a run. Losses are nats per answer token; `valid_loss` at evaluations only."""

    stage: str
    step: int
    steps: int
    train_loss: float | None = None
    valid_loss: float | None = None


Watch = Callable[[Progress], None]
"""Called at every step; an exception from it ends the run."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run: the updates hold the state of `best_step`."""

    best_step: int
    best_loss: float | None  # on the validation examples; None without any
    curve: tuple[tuple[int, float, float | None], ...]  # step, train loss, validation loss


@dataclass(frozen=True, slots=True)
class Run:
    """One training: the model, the trained updates, the examples and the checkpoint file.

    `until` is the step of the schedule at which it stops; None for the last one.
    """

    stage: str
    model: Any  # frozen, in evaluation mode
    updates: Updates
    train: Sequence[Example]
    validation: Sequence[Example]
    schedule: Schedule
    watch: Watch
    checkpoint: Path | None = None
    until: int | None = None

    def __call__(self) -> Trained:
        """Train, or resume training; afterwards the updates hold the best state.

        Raises:
            LossNotFinite: names the step; the updates hold the best state before it.
        """
        device = next(self.model.parameters()).device
        self.updates.to(device).eval()  # also if no step is left: dropout is for training steps
        parameters = [p for p in self.updates.parameters() if p.requires_grad]
        # No weight decay: it would pull coefficients, whose 0 means "leave the adapter out", to 0.
        optimizer = torch.optim.AdamW(
            parameters, lr=self.schedule.learning_rate, betas=_BETAS, weight_decay=0.0
        )
        warm_up = math.ceil(self.schedule.warm_up * self.schedule.steps)
        rates = get_cosine_schedule_with_warmup(optimizer, warm_up, self.schedule.steps)
        state = load_state(self.checkpoint, self.updates, optimizer, rates) or State()
        with attached(self.model, self.updates):
            for step in range(state.step + 1, self._last + 1):
                self.updates.begin(step)
                self.updates.train()
                loss = self._step(parameters, step, state)
                self.updates.eval()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                rates.step()
                valid = self._evaluate(step, loss, state, parameters)
                self.watch(Progress(self.stage, step, self._last, loss, valid))
                if self._is_stop(step):
                    save_state(self.checkpoint, state, self.updates, optimizer, rates)
        state.put_best(self.updates)
        return Trained(state.best_step or 0, state.best_loss, tuple(state.curve))

    @property
    def _last(self) -> int:
        return self.schedule.steps if self.until is None else self.until

    def _is_stop(self, step: int) -> bool:
        return step % self.schedule.evaluate_every == 0 or step == self._last

    def _step(self, parameters: Sequence[Tensor], step: int, state: State) -> float:
        """Put the gradient of one batch's mean loss into the parameters; return that loss."""
        batch = [self.train[at] for at in batch_of(len(self.train), self.schedule, step)]
        tokens, device = sum(map(answer_tokens, batch)), parameters[0].device
        total = 0.0
        # Gradients accumulate over pieces that fit the memory. Each piece is divided by the whole
        # batch's tokens: a mean of the pieces' means would weigh short pieces too much.
        for group in pieces(batch, STEP_TOKENS):
            part = collate([batch[at] for at in group], device)
            loss = nll(self.model, part).sum() / tokens
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        if self.schedule.l1:
            penalty = self.schedule.l1 * torch.stack([p.abs().sum() for p in parameters]).sum()
            penalty.backward()  # type: ignore[no-untyped-call]
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, _CLIP))
        # Checked before the optimiser's step: one NaN gradient would spoil its moments for good.
        if not (math.isfinite(total) and math.isfinite(norm)):
            state.put_best(self.updates)
            what = "the gradient" if math.isfinite(total) else "the loss"
            raise LossNotFinite(self.stage, step, what, state.best_step)
        return total

    def _evaluate(
        self, step: int, loss: float, state: State, parameters: Sequence[Tensor]
    ) -> float | None:
        """Record a step; at an evaluation, store the state if it is the best so far."""
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
    """Return the tokens that a training reads, each example counted as often as it is shown."""
    steps = range(1, schedule.steps + 1)
    shown = (at for step in steps for at in batch_of(len(examples), schedule, step))
    return sum(len(examples[at].tokens) for at in shown)


def batch_of(examples: int, schedule: Schedule, step: int) -> list[int]:
    """Return the examples of a step, which counts from 1: one permutation per epoch.

    The batch is computed from the step alone, so that a resumed run shows the same examples.
    """
    first = (step - 1) * schedule.batch_size
    batch: list[int] = []
    while len(batch) < schedule.batch_size:
        epoch, at = divmod(first + len(batch), examples)
        order = torch.randperm(examples, generator=generator_for(schedule.seed, f"epoch/{epoch}"))
        batch += order[at : at + schedule.batch_size - len(batch)].tolist()
    return batch
