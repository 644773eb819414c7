"""The fresh LoRA computes what PEFT's layer computes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from merge.adaptive.model.fresh_lora import Fresh, FreshPlan, linear_widths
from merge.adaptive.model.hooks import attached, freeze
from merge.adaptive.training import Run, Schedule
from merge.peft_io import write_peft
from tests.merge.adaptive.small import random_examples
from tests.merge.llama import load_in_peft, logits, tiny_llama

PLAN = FreshPlan(rank=4, alpha=16.0, dropout=0.0, seed=1)


def trained(plan: FreshPlan, steps: int = 12) -> Fresh:
    """Return a fresh LoRA after some steps on random examples."""
    updates = Fresh(linear_widths(tiny_llama()), plan)
    Run(
        stage="fresh", model=freeze(tiny_llama()), updates=updates,
        train=random_examples(16, seed=1), validation=[], watch=lambda _: None,
        schedule=Schedule(steps=steps, learning_rate=1e-2),
    )()  # fmt: skip
    return updates


def with_updates(updates: Fresh) -> Tensor:
    """Return the tiny Llama's logits with updates attached."""
    model = tiny_llama()
    with attached(model, updates):
        return logits(model)


def test_it_begins_as_the_base() -> None:
    """B starts at zero, so the model is unchanged before the first step."""
    assert torch.equal(logits(tiny_llama()), with_updates(Fresh(linear_widths(tiny_llama()), PLAN)))


def test_its_first_rows_are_kaiming_uniform() -> None:
    """A starts as in PEFT, uniform in ±1/√d_in, and differs between seeds and modules."""
    widths = {"one": (400, 8), "two": (400, 8)}
    first = Fresh(widths, FreshPlan(rank=50, seed=1)).modules_now()
    other = Fresh(widths, FreshPlan(rank=50, seed=2)).modules_now()

    assert float(first["one"].a.abs().max()) <= 0.05
    assert float(first["one"].a.std()) == pytest.approx(0.05 / 3**0.5, rel=0.02)
    assert not torch.equal(first["one"].a, first["two"].a)
    assert not torch.equal(first["one"].a, other["one"].a)


def test_what_is_written_is_what_was_trained(tmp_path: Path) -> None:
    """PEFT loads the written folder and gives the trained logits."""
    updates = trained(PLAN)
    write_peft(tmp_path / "fresh", updates.modules_now(), base=None)
    ours, base = with_updates(updates), logits(tiny_llama())

    assert float((ours - base).abs().max()) > 1e-3
    torch.testing.assert_close(logits(load_in_peft(tmp_path / "fresh")), ours)


def test_dropout_is_on_in_training_only() -> None:
    """Dropout changes the training, depends on the seed, and is off after the training."""
    plan = FreshPlan(rank=4, dropout=0.5, seed=1)
    updates = trained(plan)
    again, without = trained(plan), trained(PLAN)

    assert torch.equal(with_updates(updates), with_updates(updates))
    assert torch.equal(with_updates(updates), with_updates(again))
    assert not torch.equal(with_updates(updates), with_updates(without))


def test_dropout_keeps_the_mean() -> None:
    """Kept values are scaled up, so the expected update equals the update without dropout."""
    updates = Fresh({"lm_head": (16, 3)}, FreshPlan(rank=2, alpha=2.0, dropout=0.4, seed=1))
    layer = updates.layers()["lm_head"]
    with torch.no_grad():
        layer.get_parameter("b").normal_(generator=torch.Generator().manual_seed(0))
        x = torch.ones(20_000, 16)
        updates.eval()
        expected = layer(x[:1])
        updates.train()
        updates.begin(1)
        found = layer(x).mean(0)

    torch.testing.assert_close(found, expected[0], rtol=0.03, atol=0.01)


def test_linear_widths_are_those_of_the_layers() -> None:
    """The default targets are all linear modules of the layers and not the lm_head; names replace
    them."""
    widths = linear_widths(tiny_llama())

    assert 14 == len(widths)
    assert (16, 24) == widths["model.layers.0.mlp.gate_proj"]
    assert {"lm_head": (16, 32)} == linear_widths(tiny_llama(), ["lm_head"])
