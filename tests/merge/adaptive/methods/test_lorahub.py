"""LoraHub's search gives nevergrad's own results, also when it is stopped and resumed."""

from collections.abc import Sequence
from pathlib import Path

import nevergrad as ng
import pytest

from merge.adaptive.methods.lorahub import Search, search_weights

WANTED = (0.9, -0.4, 0.0)


def bowl(weights: Sequence[float]) -> float:
    """Return a loss whose minimum is at WANTED."""
    return sum((w - wanted) ** 2 for w, wanted in zip(weights, WANTED, strict=True))


@pytest.mark.filterwarnings("ignore:COBYLA")
def test_lorahub_is_nevergrad() -> None:
    """The search gives the weights of NGOpt called as the original calls it: from 0, in ±1.5, on
    the loss + 0.05 · mean|w|."""
    array = ng.p.Array(init=[0.0] * 3, lower=[-1.5] * 3, upper=[1.5] * 3)
    array.random_state.seed(7)
    optimizer = ng.optimizers.NGOpt(parametrization=array, budget=60)
    found = optimizer.minimize(lambda w: bowl(w) + 0.05 * sum(abs(x) for x in w) / 3)

    ours = search_weights(Search(3, budget=60, seed=7), bowl)

    assert tuple(found.value) == pytest.approx(ours, abs=1e-12)
    assert ours == pytest.approx(WANTED, abs=0.1)


@pytest.mark.parametrize("cut", [False, True])
def test_a_stopped_search_goes_on(cut: bool, tmp_path: Path) -> None:
    """A resumed search reuses the measured losses and ends with the weights of an uninterrupted
    one; a loss whose line was cut off is measured again."""
    history, asked = tmp_path / "history", list[Sequence[float]]()

    def stopping(weights: Sequence[float]) -> float:
        asked.append(weights)
        if len(asked) == 25:
            raise KeyboardInterrupt
        return bowl(weights)

    with pytest.raises(KeyboardInterrupt):
        search_weights(Search(3, budget=60, seed=7), stopping, history=history)
    if cut:
        history.write_text(history.read_text()[:-3])
    before = len(asked)
    again = search_weights(Search(3, budget=60, seed=7), stopping, history=history)

    assert 60 - (23 if cut else 24) == len(asked) - before
    assert again == search_weights(Search(3, budget=60, seed=7), bowl)


def test_lorahub_tells_of_every_evaluation() -> None:
    """The search reports every evaluation with its number and its loss without the penalty."""
    told: list[tuple[int, float]] = []
    search_weights(Search(3, budget=5), bowl, report=lambda *event: told.append(event))

    assert [1, 2, 3, 4, 5] == [done for done, _ in told]
    assert told[0][1] == pytest.approx(bowl((0.0, 0.0, 0.0)))
