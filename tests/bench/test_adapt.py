"""The benchmark of a training step runs, and what it compares computes the same."""

import torch

from merge.adaptive.model.coefficients import Gated
from merge.adaptive.model.hooks import attached
from tests.bench.adapt import Apart, base_of, cases, contenders, measure

CPU = torch.device("cpu")


def test_one_layer_for_all_is_what_many_are() -> None:
    """The gated layer and K layers of their own give the same logits for the same coefficients."""
    model = base_of(CPU, quick=True)
    updates = contenders(model, 3, 2)
    gated, apart = updates["gated"], updates["apart"]
    assert isinstance(gated, Gated)
    assert isinstance(apart, Apart)
    tokens = torch.tensor([[1, 5, 9, 2]])

    found = []
    with torch.no_grad():
        gated.coefficients.raw.fill_(0.1)
        for each in (gated, apart):
            with attached(model, each):
                found.append(model(tokens).logits)

    torch.testing.assert_close(found[0], found[1])


def test_what_a_gated_pass_keeps_grows_with_the_total_rank_alone() -> None:
    """Cut into other numbers of adapters, the same total rank keeps the same bytes; K layers of
    their own keep more."""
    model = base_of(CPU, quick=True)
    steps = {n: measure(model, contenders(model, n, r), steps=1) for n, r in cases(quick=True)}

    assert steps[2]["gated"].kept_mb == steps[4]["gated"].kept_mb
    assert steps[4]["gated"].kept_mb < steps[2]["apart"].kept_mb < steps[4]["apart"].kept_mb
