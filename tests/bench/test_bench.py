"""The benchmark runs on adapters of a few kilobytes; its figures are not compared."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from merge.methods import METHODS
from merge.peft_format import WEIGHTS_NAME
from tests.adapters import make_adapter
from tests.bench import floors, inputs, on_device, peers
from tests.bench.inputs import Ingredients
from tests.bench.merge import Row, rows
from tests.bench.one import Case, measure


@pytest.fixture
def tiny(tmp_path: Path) -> Ingredients:
    """Two small adapters on the benchmark's base."""
    return Ingredients(
        tuple(make_adapter(tmp_path / f"{i}", seed=i, base=inputs.BASE) for i in range(2))
    )


def test_every_method_has_its_rows() -> None:
    """No registered method is left out, and each basis is a row of its own."""
    listed = list(rows())
    assert METHODS.keys() == {row.method for row in listed}
    assert Row("linear", "linear", {"rank": 16}) in listed
    for row in listed:
        METHODS[row.method].bind(row.options)


def test_a_case_is_measured_in_its_own_process(tiny: Ingredients, tmp_path: Path) -> None:
    """A case gives seconds, memory and bytes, and leaves nothing on disk."""
    out = tmp_path / "out"
    outcome = measure(Case("linear", {"rank": 3}, [str(p) for p in tiny.paths], str(out)))
    assert 0.0 < outcome.seconds < 60.0
    assert outcome.peak_mb > 10.0
    assert 0 < outcome.output_bytes < 20_000
    assert not out.exists()


def test_kin_have_nearly_one_a(tiny: Ingredients) -> None:
    """Adapters begun from one seed have A equal up to 2 % of its size, and B of their own."""
    one, other = (path / WEIGHTS_NAME for path in tiny.paths)
    before = load_file(other)
    inputs.bring_near(other, one)
    origin = load_file(one)
    for name, x in load_file(other).items():
        if "lora_A" in name:
            torch.testing.assert_close(x, origin[name] + 0.02 * before[name])
        else:
            assert torch.equal(x, before[name])


def test_floors_leave_nothing(tiny: Ingredients, tmp_path: Path) -> None:
    """Both floors take some time and remove what they wrote."""
    before = sorted(tmp_path.iterdir())
    assert floors.copy_seconds(tiny, 10_000, tmp_path) > 0.0
    assert floors.torch_cat_seconds(tiny, tmp_path) > 0.0
    assert before == sorted(tmp_path.iterdir())


def test_device_figures_run_on_the_cpu_too(tiny: Ingredients) -> None:
    """The device path works where tensors already lie; copying bandwidth is positive."""
    cpu = torch.device("cpu")
    cases: dict[str, tuple[str, dict[str, object]]] = {
        "cat": ("cat", {}),
        "slerp": ("slerp", {"rank": 4}),
        "linear": ("linear", {"rank": 4}),
        "lego": ("lego", {"rank": 4}),
    }
    table = on_device.table(cpu, tiny, cases)
    assert cases.keys() == table.keys()
    assert all(row["seconds"] > 0.0 and row["times_copy"] > 0.0 for row in table.values())
    assert on_device.copy_bandwidth(cpu, nbytes=2**20) > 0.0


def test_peers_do_the_same_work(tmp_path: Path) -> None:
    """scikit-learn's and PEFT's answers agree with ours on a module, so their times compare."""
    modules = dict.fromkeys(list(inputs.all_linear(1))[:2], (64, 48))
    ingredients = Ingredients(
        tuple(
            make_adapter(tmp_path / f"{i}", seed=i, rank=16, alpha=16.0, modules=modules)
            for i in range(3)
        )
    )
    found = peers.sklearn_lego(ingredients, 2)
    assert found["lego_inertia_mean_ratio"] == pytest.approx(1.0, abs=0.02)
    seconds, error = peers.peft_svd(ingredients, list(modules), "svd")
    assert seconds > 0.0
    assert error < 1e-4
    assert peers.peft_thin(ingredients, "cat") > 0.0


def test_the_pool_is_what_its_readme_says() -> None:
    """The shapes add up to 955 adapters, each with a rank and modules."""
    kinds = json.loads(inputs.POOL.read_text())
    assert 955 == sum(kind["count"] for kind in kinds)
    assert all(kind["r"] > 0 and kind["target_modules"] for kind in kinds)
