"""The control with random parameters: noise adapters with the shapes and scales of real ones."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from merge.adaptive.controls import redrawn_adapter
from merge.adaptive.model.stacked import Modules, read_modules
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
    """The noise has the adapter's modules, shapes and scales."""
    noise = redrawn_adapter(adapter, seed=1, name="a")

    assert list(adapter) == list(noise)
    assert len(MODULES) == len(noise)
    for name, factors in adapter.items():
        assert factors.a.shape == noise[name].a.shape
        assert factors.b.shape == noise[name].b.shape
        assert factors.scale == noise[name].scale


def test_deviations_are_kept_and_content_is_not(tmp_path: Path) -> None:
    """Each factor keeps its standard deviation, and the update has almost no direction in common
    with the real one."""
    adapter = read_modules(open_folder(make_adapter(tmp_path / "a", modules=BIG, size=0.02)))
    larger = {name: replace(f, b=5 * f.b) for name, f in adapter.items()}
    for name, noise in redrawn_adapter(larger, seed=1, name="a").items():
        real = larger[name]
        assert float(noise.a.std()) == pytest.approx(float(real.a.std()), rel=0.05)
        assert float(noise.b.std()) == pytest.approx(float(real.b.std()), rel=0.05)
        ours, theirs = dense(noise).flatten(), dense(real).flatten()
        assert abs(float(torch.cosine_similarity(ours, theirs, dim=0))) < 0.03


def test_what_is_constant_has_no_deviation() -> None:
    """The deviation is taken about the mean, so a constant factor becomes zeros."""
    flat = Factors(torch.full((2, 3), 7.0), torch.zeros(4, 2))
    noise = redrawn_adapter({"m": flat}, seed=1, name="a")["m"]

    assert not noise.a.any()
    assert not noise.b.any()


def test_a_draw_does_not_depend_on_earlier_draws(adapter: Modules) -> None:
    """A module's draw is the same if it is read first, last or twice, or is the only module."""
    first, *_, last = adapter
    noise = redrawn_adapter(adapter, seed=1, name="a")
    drawn = noise[first]
    draws = [
        noise[first],
        {name: noise[name] for name in (last, first)}[first],
        redrawn_adapter({first: adapter[first]}, seed=1, name="a")[first],
    ]

    for other in draws:
        assert drawn is not other
        assert torch.equal(drawn.a, other.a)
        assert torch.equal(drawn.b, other.b)


def test_seeds_names_and_modules_differ() -> None:
    """Another seed, adapter name or module gives other draws of both factors."""
    shape = Factors(
        torch.randn(2, 8, generator=torch.Generator().manual_seed(1)),
        torch.randn(8, 2, generator=torch.Generator().manual_seed(2)),
    )
    modules = {"one": shape, "two": shape}
    noise = redrawn_adapter(modules, seed=1, name="a")
    others = [
        noise["two"],
        redrawn_adapter(modules, seed=2, name="a")["one"],
        redrawn_adapter(modules, seed=1, name="b")["one"],
    ]

    for other in others:
        assert not torch.equal(noise["one"].a, other.a)
        assert not torch.equal(noise["one"].b, other.b)


def test_the_adapter_is_left_as_it_was() -> None:
    """Drawing does not write to the adapter's tensors."""
    factors = Factors(torch.eye(2, 3), torch.eye(4, 2))
    _ = redrawn_adapter({"m": factors}, seed=1, name="a")["m"]

    assert torch.equal(torch.eye(2, 3), factors.a)
    assert torch.equal(torch.eye(4, 2), factors.b)
