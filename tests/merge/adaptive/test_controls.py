"""Redrawn adapters: the size of the real ones and none of their content."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from merge.adaptive.model.stacked import Modules, read_modules
from merge.adaptive.noise import redrawn
from merge.factors import Factors
from merge.peft_format import open_folder
from tests.adapters import MODULES, make_adapter
from tests.merge.adaptive.small import dense

BIG = {"model.layers.0.mlp.gate_proj": (300, 200), "model.layers.0.mlp.down_proj": (200, 300)}


@pytest.fixture
def adapter(tmp_path: Path) -> Modules:
    """An adapter of mixed ranks and a scale."""
    ranks = {"model.layers.0.mlp.gate_proj": 7}
    return read_modules(open_folder(make_adapter(tmp_path / "a", alpha=3.0, rank_pattern=ranks)))


def test_shapes_and_scales_are_kept(adapter: Modules) -> None:
    """Ranks, widths, scales and modules are those of the adapter."""
    noise = redrawn(adapter, seed=1, name="a")

    assert list(adapter) == list(noise)
    assert len(MODULES) == len(noise)
    for name, factors in adapter.items():
        assert factors.a.shape == noise[name].a.shape
        assert factors.b.shape == noise[name].b.shape
        assert factors.scale == noise[name].scale


def test_deviations_are_kept_and_content_is_not(tmp_path: Path) -> None:
    """Each factor has the deviation of the one that it stands for, and nothing else of it."""
    adapter = read_modules(open_folder(make_adapter(tmp_path / "a", modules=BIG, size=0.02)))
    larger = {name: replace(f, b=5 * f.b) for name, f in adapter.items()}
    for name, noise in redrawn(larger, seed=1, name="a").items():
        real = larger[name]
        assert float(noise.a.std()) == pytest.approx(float(real.a.std()), rel=0.05)
        assert float(noise.b.std()) == pytest.approx(float(real.b.std()), rel=0.05)
        ours, theirs = dense(noise).flatten(), dense(real).flatten()
        assert abs(float(torch.cosine_similarity(ours, theirs, dim=0))) < 0.03


def test_what_is_constant_has_no_deviation() -> None:
    """The deviation is about the mean: a factor of one number, or of zeros, becomes zeros."""
    flat = Factors(torch.full((2, 3), 7.0), torch.zeros(4, 2))
    noise = redrawn({"m": flat}, seed=1, name="a")["m"]

    assert not noise.a.any()
    assert not noise.b.any()


def test_the_same_seed_gives_the_same_bytes(adapter: Modules) -> None:
    """Draws follow from seed, name and module alone, not from what was drawn before."""
    noise, again = redrawn(adapter, seed=1, name="a"), redrawn(adapter, seed=1, name="a")
    first, *_, last = adapter
    _ = again[last]

    assert torch.equal(noise[first].a, again[first].a)
    assert torch.equal(noise[first].b, noise[first].b)
    alone = redrawn({first: adapter[first]}, seed=1, name="a")
    assert torch.equal(noise[first].b, alone[first].b)


def test_seeds_names_and_modules_differ() -> None:
    """Two members of one shape are not redrawn alike, nor two modules."""
    shape = Factors(torch.randn(2, 8, generator=torch.Generator().manual_seed(1)), torch.eye(8, 2))
    adapter = {"one": shape, "two": shape}
    noise = redrawn(adapter, seed=1, name="a")
    others = (redrawn(adapter, seed=2, name="a"), redrawn(adapter, seed=1, name="b"))

    assert not torch.equal(noise["one"].a, noise["two"].a)
    for other in others:
        assert not torch.equal(noise["one"].a, other["one"].a)


def test_the_adapter_is_left_as_it_was() -> None:
    """Its tensors are not written to."""
    factors = Factors(torch.eye(2, 3), torch.eye(4, 2))
    _ = redrawn({"m": factors}, seed=1, name="a")["m"]

    assert torch.equal(torch.eye(2, 3), factors.a)
    assert torch.equal(torch.eye(4, 2), factors.b)
