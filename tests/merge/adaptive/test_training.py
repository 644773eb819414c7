"""The training loop: against plain PyTorch, stopped and resumed, and with losses not finite."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from merge.adaptive.model.fresh_lora import Fresh, FreshPlan, linear_widths
from merge.adaptive.model.hooks import Updates, freeze
from merge.adaptive.model.stacked import Modules
from merge.adaptive.scoring.examples import IGNORED, Example
from merge.adaptive.training import (
    LossNotFinite,
    Progress,
    Run,
    Schedule,
    Trained,
    batch_of,
    tokens_shown,
)
from tests.merge.adaptive.small import dense, gated, random_adapters, random_examples
from tests.merge.llama import tiny_llama

TRAIN, VALIDATION = random_examples(20, seed=1), random_examples(6, seed=2)
Make = Callable[[], Updates]


class Stopped(Exception):
    """Raised by a test's watch to end a run."""


def run(
    updates: Updates, schedule: Schedule, *, stop_at: int | None = None,
    checkpoint: Path | None = None, validation: list[Example] = VALIDATION,
) -> Trained:  # fmt: skip
    """Train on the tiny Llama; `stop_at` ends the run right after that step."""

    def watch(progress: Progress) -> None:
        if progress.step == stop_at:
            raise Stopped

    return Run(
        stage="test", model=freeze(tiny_llama()), updates=updates, train=TRAIN,
        validation=validation, schedule=schedule, watch=watch, checkpoint=checkpoint,
    )()  # fmt: skip


@pytest.fixture
def adapters(tmp_path: Path) -> list[Modules]:
    """Three adapters of mixed ranks."""
    return random_adapters(tmp_path)


def plain_losses(adapters: list[Modules], schedule: Schedule) -> list[float]:
    """Reimplement the recycling paper's training: dense updates, AdamW and cosine by hand."""
    model = freeze(tiny_llama())
    own = dict(model.named_parameters())
    names = sorted({name for adapter in adapters for name in adapter})
    w = torch.zeros(len(names), len(adapters), requires_grad=True)
    first, second = torch.zeros_like(w), torch.zeros_like(w)
    warm, losses = math.ceil(schedule.warm_up * schedule.steps), []
    for step in range(1, schedule.steps + 1):
        weights = {}
        for m, name in enumerate(names):
            weights[f"{name}.weight"] = own[f"{name}.weight"] + sum(
                torch.where(w[m, k] > 0, w[m, k], 0.01 * w[m, k]) * dense(adapter[name]).float()
                for k, adapter in enumerate(adapters)
                if name in adapter
            )
        total, count = torch.zeros(()), 0
        for at in batch_of(len(TRAIN), schedule, step):
            tokens = torch.tensor([TRAIN[at].tokens])
            logs = functional_call(model, weights, (tokens,)).logits[0].log_softmax(-1)
            for place, label in enumerate(TRAIN[at].labels):
                if label != IGNORED:
                    total, count = total - logs[place - 1, label], count + 1
        loss = total / count
        losses.append(float(loss.detach()))
        (gradient,) = torch.autograd.grad(loss, w)
        gradient = gradient * min(1.0, 1.0 / (float(gradient.norm()) + 1e-6))
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        # Step n uses the learning rate after n - 1 steps.
        done = step - 1
        share = done / warm if done < warm else 0.5 * (
            1 + math.cos(math.pi * (done - warm) / (schedule.steps - warm))
        )  # fmt: skip
        rate = schedule.learning_rate * share
        moved = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        w = (w - rate * moved).detach().requires_grad_(True)
    return losses


def test_recycle_is_the_papers(adapters: list[Modules]) -> None:
    """Twenty steps of `recycle` give the losses of an independent implementation in plain
    PyTorch, dense updates and an optimiser by hand, to 1e-5."""
    schedule = Schedule(steps=20, evaluate_every=5)

    trained = run(gated(adapters), schedule)

    ours = [loss for _, loss, _ in trained.curve]
    assert len(set(ours)) == 20
    assert ours == pytest.approx(plain_losses(adapters, schedule), abs=1e-5)


def fresh_make() -> Updates:
    """A small fresh LoRA with much dropout."""
    return Fresh(linear_widths(tiny_llama()), FreshPlan(rank=4, dropout=0.5, seed=3))


@pytest.mark.parametrize("kind", ["coefficients", "fresh"])
def test_a_stopped_run_goes_on(kind: str, adapters: list[Modules], tmp_path: Path) -> None:
    """A stopped run resumes from its last evaluation and ends with exactly the numbers of an
    uninterrupted one, dropout included."""
    make: Make = fresh_make if kind == "fresh" else lambda: gated(adapters)
    schedule = Schedule(steps=24, evaluate_every=4, learning_rate=1e-2, seed=5)
    whole_updates = make()
    whole = run(whole_updates, schedule)

    checkpoint = tmp_path / "run.pt"
    for stop_at in (10, 19):
        with pytest.raises(Stopped):
            run(make(), schedule, stop_at=stop_at, checkpoint=checkpoint)
    seen: list[int] = []
    resumed_updates = make()
    resumed = Run(
        stage="test", model=freeze(tiny_llama()), updates=resumed_updates, train=TRAIN,
        validation=VALIDATION, schedule=schedule, watch=lambda p: seen.append(p.step),
        checkpoint=checkpoint,
    )()  # fmt: skip

    assert 17 == seen[0]
    assert whole == resumed
    for ours, theirs in zip(
        whole_updates.state_dict().values(), resumed_updates.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_the_best_state_is_kept() -> None:
    """After training, the updates hold the state with the lowest validation loss, not the last."""
    schedule = Schedule(steps=30, evaluate_every=3, learning_rate=5e-2)  # overfits
    updates, shorter = fresh_make(), fresh_make()
    trained = run(updates, schedule)
    with pytest.raises(Stopped):
        run(shorter, schedule, stop_at=trained.best_step)

    valid = {step: loss for step, _, loss in trained.curve if loss is not None}
    assert min(valid.values()) == trained.best_loss == valid[trained.best_step]
    assert trained.best_step < 30
    for ours, theirs in zip(
        updates.state_dict().values(), shorter.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_without_validation_the_last_state_counts(adapters: list[Modules]) -> None:
    """Without validation examples the last state is the result."""
    trained = run(gated(adapters), Schedule(steps=6, evaluate_every=4), validation=[])

    assert (6, None) == (trained.best_step, trained.best_loss)


def test_a_training_that_ends_early_takes_the_same_steps(adapters: list[Modules]) -> None:
    """Up to the step at which it ends, a training is the longer one's, its learning rates too."""
    long, short = gated(adapters), gated(adapters)
    schedule = Schedule(steps=12, evaluate_every=4)
    with pytest.raises(Stopped):
        run(long, schedule, stop_at=8, validation=[])
    trained = Run("test", freeze(tiny_llama()), short, TRAIN, (), schedule, lambda _: None,
                  until=8)()  # fmt: skip

    assert (8, 8) == (trained.best_step, len(trained.curve))
    for ours, theirs in zip(long.state_dict().values(), short.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def spoiled(adapters: list[Modules], number: float) -> list[Modules]:
    """Return the adapters, one of them with a number that admission would refuse."""
    bad = {name: replace(f, b=torch.full_like(f.b, number)) for name, f in adapters[0].items()}
    return [bad, *adapters[1:]]


def test_a_loss_that_is_not_finite_ends_the_run(adapters: list[Modules]) -> None:
    """A NaN loss ends the training with an error that names the step and advises what to change."""
    with pytest.raises(LossNotFinite, match=r"test: the (loss|gradient) at step 1 is not finite"):
        run(gated(spoiled(adapters, math.nan)), Schedule(steps=6))


def test_the_last_good_state_survives(adapters: list[Modules]) -> None:
    """If training fails after good evaluations, the updates hold the best evaluated state."""
    updates = gated(adapters)
    good: list[Tensor] = []

    def break_later(progress: Progress) -> None:
        if progress.step == 8:
            good.append(updates.coefficients.raw.detach().clone())
        if progress.step == 10:
            with torch.no_grad():
                updates.coefficients.raw.fill_(math.nan)

    run_it: Any = Run(
        stage="test", model=freeze(tiny_llama()), updates=updates, train=TRAIN, validation=[],
        schedule=Schedule(steps=20, evaluate_every=8), watch=break_later,
    )  # fmt: skip
    with pytest.raises(LossNotFinite, match=r"step 11 .*the state of step 8 is kept") as caught:
        run_it()

    assert 11 == caught.value.step
    assert torch.equal(good[0], updates.coefficients.raw)


def test_every_epoch_shows_every_example_once() -> None:
    """Each epoch shows every example once, whatever the batch size."""
    schedule = Schedule(steps=7, batch_size=6, seed=9)
    shown = [at for step in range(1, 8) for at in batch_of(10, schedule, step)]

    assert list(range(10)) == sorted(shown[:10]) == sorted(shown[10:20])
    assert shown[:10] != shown[10:20]
    assert shown != [at for s in range(1, 8) for at in batch_of(10, replace(schedule, seed=1), s)]


def test_tokens_are_counted_as_often_as_they_are_shown() -> None:
    """Three epochs show every token three times."""
    schedule = Schedule(steps=10, batch_size=6)  # 3 epochs of 20 examples

    assert 3 * sum(len(each.tokens) for each in TRAIN) == tokens_shown(TRAIN, schedule)


def test_l1_pulls_towards_zero(adapters: list[Modules]) -> None:
    """L1 makes the learned coefficients smaller."""
    free, bound = gated(adapters), gated(adapters)
    run(free, Schedule(steps=20))
    run(bound, Schedule(steps=20, l1=0.5))

    assert bound.coefficients.raw.abs().sum() < free.coefficients.raw.abs().sum()


def test_the_base_is_left_as_it_was(adapters: list[Modules]) -> None:
    """Training, stopped or not, leaves the base's weights and hooks unchanged."""
    model = freeze(tiny_llama())
    before = {name: p.clone() for name, p in model.state_dict().items()}

    def stop(progress: Progress) -> None:
        if progress.step == 2:
            raise Stopped

    with pytest.raises(Stopped):
        Run(
            stage="test", model=model, updates=gated(adapters), train=TRAIN,
            validation=VALIDATION, schedule=Schedule(steps=3), watch=stop,
        )()  # fmt: skip

    assert not any(module._forward_hooks for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())
    for name, p in model.state_dict().items():
        assert torch.equal(before[name], p)
