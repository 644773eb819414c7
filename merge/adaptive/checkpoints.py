"""Checkpoints of a training, in memory and on disk.

Covered: the best state so far, the optimiser's state, the curve; files appear whole or not at all.
Not covered: when a checkpoint is written (`training`). Files hold tensors and plain values and are
read with torch's restricted unpickler.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from merge.peft_format.atomic_files import atomic_file


@dataclass(slots=True)
class State:
    """A run so far. The best state has the lowest validation loss; without one it is the last."""

    step: int = 0
    best_step: int | None = None
    best_loss: float | None = None
    best: dict[str, Tensor] | None = None
    curve: list[tuple[int, float, float | None]] = field(default_factory=list)

    def keep_best(self, step: int, loss: float | None, updates: nn.Module) -> None:
        """Store a copy of the state of a step if it is the best."""
        if loss is None or self.best_loss is None or loss < self.best_loss:
            self.best_step, self.best_loss = step, loss
            self.best = deepcopy(trained_tensors(updates))

    def put_best(self, updates: nn.Module) -> None:
        """Put the best state back, if there is one."""
        if self.best is not None:
            updates.load_state_dict(self.best, strict=False)


def trained_tensors(updates: nn.Module) -> dict[str, Tensor]:
    """Return the trained tensors by name; frozen factors, of gigabytes, are left out."""
    return {name: p.detach() for name, p in updates.named_parameters() if p.requires_grad}


def save_state(
    path: Path | None, state: State, updates: nn.Module, optimizer: Any, rates: Any
) -> None:
    """Write a checkpoint; the one before it stays until the new one is whole.

    Raises:
        OSError: the disk is full or gone.
    """
    if path is None:
        return
    document = {
        "step": state.step, "best_step": state.best_step, "best_loss": state.best_loss,
        "best": state.best, "curve": state.curve, "now": trained_tensors(updates),
        "optimizer": optimizer.state_dict(), "rates": rates.state_dict(),
    }  # fmt: skip
    with atomic_file(path) as file:
        try:
            torch.save(document, file)
        except RuntimeError as error:
            # After a failed write torch closes its archive, which raises an error that hides the
            # cause.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_state(path: Path | None, updates: nn.Module, optimizer: Any, rates: Any) -> State | None:
    """Restore updates, optimiser and rates from a checkpoint; None if there is none."""
    if path is None or not path.exists():
        return None
    # To the CPU first: the job may resume on another device, and a second copy may not fit.
    document = torch.load(path, map_location="cpu", weights_only=True)
    updates.load_state_dict(document["now"], strict=False)
    optimizer.load_state_dict(document["optimizer"])
    rates.load_state_dict(document["rates"])
    curve = [(step, loss, valid) for step, loss, valid in document["curve"]]
    return State(
        document["step"], document["best_step"], document["best_loss"], document["best"], curve
    )
