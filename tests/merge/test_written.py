"""The norm that a merge reports, and judges, is the norm of the file."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merge.errors import MergeError, UnsafeResult
from merge.factors import Factors
from merge.methods import METHODS
from merge.peft_format import open_folder
from merge.peft_io import cast, read_peft
from merge.run import FACTOR_LIMIT, NORM_LIMIT, merge
from merge.written import Written
from tests.adapters import make_adapter
from tests.laws.laws import random_factors
from tests.merge.merge_setup import MergeSetup, suiting

DTYPES = ("float32", "bfloat16", "float16")


def dense_norm(folder: Path) -> tuple[float, float]:
    """Return the norm of a written update, and of its largest factor, dense and in float64."""
    opened, squares, largest = open_folder(folder), [0.0], [0.0]
    for module in opened.modules.values():
        f = read_peft(opened, module)
        squares.append(float((f.b.double() @ f.a.double() * f.scale).square().sum()))
        largest += [float(f.a.double().norm()), float(f.b.double().norm()) * abs(f.scale)]
    return math.sqrt(math.fsum(squares)), max(largest)


def near_copies(root: Path, method: str, weights: tuple[float, float, float]) -> MergeSetup:
    """Return three adapters, of which the second is the first but for the rounding of its dtype."""
    paths = [
        make_adapter(root / "one", seed=1),
        make_adapter(root / "copy", seed=1, dtype="bfloat16"),
        make_adapter(root / "other", seed=2),
    ]
    count = METHODS[method].requirements.members or 3
    if METHODS[method].requirements.positive_weights:
        weights = (abs(weights[0]), abs(weights[1]), abs(weights[2]))
    return MergeSetup(root, paths[:count], list(weights[:count]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_reported_norm_is_the_files(merge_setup: MergeSetup, method: str, dtype: str) -> None:
    """For every method and dtype the reported norm is that of the file in float64, to 1e-3; also
    for near-copies whose weights cancel.
    """
    cases: list[tuple[MergeSetup, dict[str, object]]] = [(suiting(merge_setup, method), {})]
    for scale in (1.0, "match"):
        folder = merge_setup.root / f"near-{scale}"
        cases.append((near_copies(folder, method, (1.0, -0.999, 1e-4)), {"scale": scale}))
    for number, (setup, options) in enumerate(cases):
        out = merge_setup.root / f"out-{number}"
        recipe = setup.recipe(method, dtype=dtype, **options)
        try:
            report = merge(recipe, setup.folders, out)
        except UnsafeResult:
            # actmat without a ridge tells near-copies apart by numbers without bound.
            assert options.get("scale") == "match" or (method == "actmat" and options)
            continue
        norm, factor = dense_norm(out)
        assert report.overall.norm == pytest.approx(norm, rel=1e-3)
        assert report.overall.factor_norm == pytest.approx(factor, rel=1e-3)


def test_weights_that_cancel_before_the_cast_only_are_refused(tmp_path: Path) -> None:
    """An update that is the rounding of two cancelling weights is judged by its true norm."""
    path = make_adapter(tmp_path / "a", dtype="bfloat16")
    setup = MergeSetup(tmp_path, [path, path], [10_001_800.0, -10_001_810.0])
    with pytest.raises(UnsafeResult, match="above the limit of 1000"):
        setup.merge(setup.recipe("cat", dtype="bfloat16"))


def test_large_factors_of_a_small_update_are_refused(tmp_path: Path) -> None:
    """Exact copies that cancel are refused where a factor alone is above its limit."""
    path = make_adapter(tmp_path / "a")
    setup = MergeSetup(tmp_path, [path, path], [1e8, -1e8])
    with pytest.raises(UnsafeResult, match="a factor of the merged update has a norm of"):
        setup.merge(setup.recipe("cat"))


def test_a_match_that_the_cast_would_change_is_refused(tmp_path: Path) -> None:
    """scale=match is refused where the matched norm would be that of the output's rounding."""
    setup = near_copies(tmp_path, "cat", (1.0, -1.0, 1e-3))
    assert setup.merge(setup.recipe("cat", scale="match")).overall.norm > 1.0
    with pytest.raises(UnsafeResult, match="rounding changes the norm"):
        merge(setup.recipe("cat", scale="match", dtype="bfloat16"), setup.folders, tmp_path / "b")


@pytest.mark.parametrize("gap", [0.0, 1e-7, 1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_cancelling_units_are_measured_exactly(gap: float, dtype: str) -> None:
    """The norm of a pair of opposite updates is right to 1e-6, down to the last digit of float32;
    where nothing is left, it is 0.
    """
    f, g = random_factors(1, 4, scale=1.0), random_factors(2, 4, scale=1.0)
    a = torch.cat([f.a, f.a + gap * g.a])
    b = torch.cat([f.b, -f.b], dim=1)
    written = Written.of(Factors(cast(a, dtype, "m").float(), cast(b, dtype, "m").float()))
    exact = (written.factors.b.double() @ written.factors.a.double()).norm()
    assert math.sqrt(written.square) == pytest.approx(float(exact), rel=1e-6, abs=1e-12)


ANY_WEIGHT = st.floats(-1e38, 1e38, allow_subnormal=False) | st.floats(-2e4, 2e4)
NEAR = st.sampled_from((0.0, 1e-9, 1e-7, 1e-6, 1e-3))


@settings(
    max_examples=60, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    method=st.sampled_from(sorted(METHODS)), dtype=st.sampled_from(DTYPES), first=ANY_WEIGHT,
    second=ANY_WEIGHT, near=st.none() | NEAR, scale=st.none() | ANY_WEIGHT, same=st.booleans(),
)  # fmt: skip
def test_no_weights_exceed_the_limits(
    tmp_path_factory: pytest.TempPathFactory, two_adapters: list[Path], method: str, dtype: str,
    first: float, second: float, near: float | None, scale: float | None, same: bool,
) -> None:  # fmt: skip
    """No expression of one or two adapters, with any weights, writes a file above the limits."""
    root = tmp_path_factory.mktemp("any")
    weights = [first, second if near is None else -first * (1 + near)]
    paths = [two_adapters[0], two_adapters[0 if same else 1]]
    count = METHODS[method].requirements.members or 2
    setup = MergeSetup(root, paths[:count], weights[:count])
    try:
        report = setup.merge(
            setup.recipe(method, dtype=dtype, **({"scale": scale} if scale else {}))
        )
    except MergeError:
        assert not (root / "out").exists()
        return
    norm, factor = dense_norm(root / "out")
    assert norm <= NORM_LIMIT * 1.001
    assert factor <= FACTOR_LIMIT * 1.001
    assert report.overall.norm == pytest.approx(norm, rel=1e-3, abs=1e-7)


@pytest.fixture(scope="module")
def two_adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """An adapter, and one that differs from it by the rounding of bfloat16."""
    root = tmp_path_factory.mktemp("two")
    one = {"model.layers.0.self_attn.q_proj": (16, 16)}
    return [
        make_adapter(root / "a", seed=1, modules=one),
        make_adapter(root / "b", seed=1, modules=one, dtype="bfloat16"),
    ]
