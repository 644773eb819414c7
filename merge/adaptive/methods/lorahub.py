"""LoraHub: one weight per adapter, found without gradients (arXiv 2307.13269).

Minimises cross-entropy + 0.05 · mean|w| with nevergrad's NGOpt from w = 0 in [-1.5, 1.5]. The
update is the exact Σ w s B A; `cross_terms` gives the original's (Σ w B)(Σ w A) instead, which is
weft's `average_factors(split=full)`. The budget is that of arXiv 2602.12323; the original's is 40.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nevergrad as ng

PENALTY = 0.05


@dataclass(frozen=True, slots=True)
class Search:
    """One search for weights."""

    members: int
    budget: int = 100
    bound: float = 1.5
    seed: int = 0


Objective = Callable[[Sequence[float]], float]
Told = Callable[[int, float], None]


def search_weights(
    search: Search, loss: Objective, *, history: Path | None = None, told: Told | None = None
) -> tuple[float, ...]:
    """Return the weights that NGOpt recommends.

    Args:
        search: its size, bounds and seed.
        loss: nats per answer token for some weights.
        history: a file of losses that were measured: a search that was stopped goes on from there
            without measuring them again, for what is asked follows from the seed and the answers.
        told: called with (evaluations done, the loss of the last).

    Raises:
        OSError: the history cannot be written.
    """
    start = ng.p.Array(init=[0.0] * search.members, lower=-search.bound, upper=search.bound)
    start.random_state.seed(search.seed % 2**32)  # all that NumPy's old generator takes
    optimizer = ng.optimizers.NGOpt(parametrization=start, budget=search.budget)
    known = _read(history)
    with warnings.catch_warnings():
        # nevergrad hands scipy small budgets, which scipy then mends.
        warnings.filterwarnings("ignore", message="COBYLA", category=UserWarning)
        for done in range(search.budget):
            asked = optimizer.ask()
            weights = [float(w) for w in asked.value]
            if done < len(known):
                value = known[done]
            else:
                value = loss(weights)
                _append(history, value)
            optimizer.tell(asked, value + PENALTY * sum(map(abs, weights)) / search.members)
            if told is not None:
                told(done + 1, value)
        return tuple(float(w) for w in optimizer.recommend().value)


def _read(history: Path | None) -> list[float]:
    if history is None or not history.exists():
        return []
    text = history.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:  # a line that a crash cut off was not measured
        history.write_text(whole)
    return [float(json.loads(line)) for line in whole.splitlines()]


def _append(history: Path | None, value: float) -> None:
    if history is not None:
        with history.open("a") as file:
            file.write(f"{json.dumps(value)}\n")
