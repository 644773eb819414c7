"""Sign elections and sums, entry by entry, against worked examples."""

import pytest
import torch
from torch import Tensor

from merge.prune import PruneOptions
from merge.signs import any_sign, disjoint_mean, elect_signs, energy_mean, mean, total

# Three members, four entries: agreement, a large minority, a draw, one member alone.
X = torch.tensor([[2.0, 5.0, 3.0, 0.0], [1.0, -2.0, -3.0, 0.0], [3.0, -2.0, 0.0, -4.0]])


def tiles() -> list[Tensor]:
    """Return X as two tiles (T, 1, 2)."""
    return [X[:, None, :2].clone(), X[:, None, 2:].clone()]


def left(majority: str) -> Tensor:
    """Return the entries that remain after an election, (T, 4)."""
    options = PruneOptions("m", majority=majority)  # type: ignore[arg-type]  # a table
    return torch.cat(list(elect_signs(tiles(), options)), dim=2)[:, 0]


def test_the_sum_elects() -> None:
    """The sign of the sum is elected: 5 - 2 - 2 is positive, so the one member outweighs two."""
    expected = [[2.0, 5.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, -4.0]]

    assert expected == left("total").tolist()


def test_the_count_elects() -> None:
    """With majority "frequency" two members outvote a larger one; a draw elects no sign."""
    expected = [[2.0, 0.0, 0.0, 0.0], [1.0, -2.0, 0.0, 0.0], [3.0, -2.0, 0.0, -4.0]]

    assert expected == left("frequency").tolist()


def test_any_sign_erases_nothing() -> None:
    """Without an election all entries remain."""
    assert torch.equal(X, torch.cat(list(any_sign(tiles(), PruneOptions("m"))), dim=2)[:, 0])


@pytest.mark.parametrize(
    ("combine", "expected"),
    [
        (total, [6.0, 1.0, 0.0, -4.0]),
        (mean, [2.0, 1 / 3, 0.0, -4 / 3]),
        (disjoint_mean, [2.0, 1 / 3, 0.0, -4.0]),
    ],
)
def test_sums(combine: object, expected: list[float]) -> None:
    """Entries combine by sum, by mean over all members, or by mean over those with the entry."""
    rows = combine(tiles(), tiles())  # type: ignore[operator]  # a table

    torch.testing.assert_close(torch.cat(list(rows), dim=1)[0], torch.tensor(expected))


def test_energies_are_those_before_the_election() -> None:
    """Shares are of Σ x² after pruning, 38, 14 and 29 of 81; the mean is over entries left."""
    pruned, elected = tiles(), list(elect_signs(tiles(), PruneOptions("m")))
    expected = [(2 * 38 + 14 + 3 * 29) / 81, 5.0, 0.0, -4.0]

    rows = energy_mean(pruned, elected)

    torch.testing.assert_close(torch.cat(list(rows), dim=1)[0], torch.tensor(expected))


def test_no_energy_is_no_nan() -> None:
    """Members that are all zero have no energy and give zero, not NaN."""
    zero = [torch.zeros(2, 1, 3)]

    assert torch.equal(torch.zeros(1, 3), next(iter(energy_mean(zero, zero))))


def test_hardly_any_energy_alone_still_gives_its_entry() -> None:
    """The mean over one member is its entry, even if its share underflows float32."""
    tile = torch.tensor([[[1.0, 0.0]], [[0.0, 1e-22]]])

    rows = energy_mean([tile.clone()], [tile.clone()])

    expected = torch.tensor([[1.0, 1e-22]])
    torch.testing.assert_close(torch.cat(list(rows)), expected, rtol=1e-5, atol=0.0)
