"""Any LoRA adapters of one base merge, by every method, into an adapter that can be served.

Members are drawn with ranks, rank and alpha patterns, rsLoRA, dtypes, module sets and widths of
their own, with embedding and lm_head pairs among the modules, and go through files as in life.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from merge.errors import IncompatibleAdapters, UnsafeResult
from merge.methods import METHODS, MergeMethod
from merge.peft_format import digest_folder, open_folder, tensor_names
from merge.peft_format.names import Kind
from merge.peft_io import is_finite, read_peft
from merge.recipe import Member, Recipe, plan
from merge.run import merge
from tests.adapters import BASE, DTYPES, write_folder
from tests.laws.laws import update

Q, UP = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj"
EMBEDDING, HEAD = "model.embed_tokens", "lm_head"
KINDS: Mapping[str, Kind] = {Q: "linear", UP: "linear", EMBEDDING: "embedding", HEAD: "linear"}
RELAXED = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def shapes(hidden: int, wide: int, vocabulary: int) -> dict[str, tuple[int, int]]:
    """Return (d_in, d_out) of the modules of a base with these widths."""
    return {
        Q: (hidden, hidden), UP: (hidden, wide), EMBEDDING: (vocabulary, hidden),
        HEAD: (hidden, vocabulary),
    }  # fmt: skip


@st.composite
def adapters(draw: st.DrawFn, folder: Path, widths: dict[str, tuple[int, int]], rank: int) -> Path:
    """Write an adapter: of the given rank everywhere or, without one, of a rank per module."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    dtype = DTYPES[draw(st.sampled_from(sorted(DTYPES)))]
    modules = draw(st.lists(st.sampled_from(sorted(widths)), min_size=1, unique=True))
    r = rank or draw(st.integers(1, 9))
    ranks = {} if rank else {name: draw(st.integers(1, 9)) for name in modules[1:]}
    tensors: dict[str, Tensor] = {}
    for name in modules:
        d_in, d_out = widths[name]
        name_a, name_b = tensor_names(name, KINDS[name])
        for key, shape in ((name_a, (ranks.get(name, r), d_in)),
                           (name_b, (d_out, ranks.get(name, r)))):  # fmt: skip
            tensors[key] = (torch.randn(shape, generator=generator) * 0.3).to(dtype)
    write_folder(
        folder, tensors, r=r, rank_pattern=ranks, use_rslora=draw(st.booleans()),
        lora_alpha=draw(st.sampled_from([0.5, 1.0, 8.0, 33.0])), target_modules=modules,
        alpha_pattern={modules[0]: draw(st.sampled_from([1.0, 16.0]))},
    )  # fmt: skip
    return folder


@st.composite
def kitchens(draw: st.DrawFn, method: MergeMethod, folder: Path) -> tuple[list[Path], list[float]]:
    """Write members that meet the method's requirements, and return their folders and weights."""
    wide = st.integers(1, 14)
    widths = shapes(draw(wide), draw(wide), draw(wide))
    count = draw(st.integers(1, method.requirements.members or 4))
    rank = draw(st.integers(1, 9)) if method.requirements.equal_ranks else 0
    paths = [draw(adapters(folder / f"member{i}", widths, rank)) for i in range(count)]
    sizes = st.sampled_from([1.0, 0.3, 2.5])
    if not method.requirements.positive_weights:
        sizes = st.sampled_from([1.0, 0.3, 2.5, -0.7])
    return paths, [draw(sizes) for _ in paths]


def planned(
    method: str, paths: list[Path], weights: list[float], *, dtype: str, **options: object
) -> tuple[Recipe, dict[str, Path]]:
    """Plan a merge of folders and return the recipe with the folders of its ingredients."""
    digests = [digest_folder(path) for path in paths]
    members = [
        Member.from_folder(path.name, open_folder(path), weight, digest)
        for path, weight, digest in zip(paths, weights, digests, strict=True)
    ]
    recipe = plan(method, members, options=options, base=BASE, dtype=dtype, rank_limit=None)
    return recipe, dict(zip(digests, paths, strict=True))


def updates(path: Path) -> dict[str, Tensor]:
    """Return a folder's updates by module, (d_out, d_in) float64."""
    folder = open_folder(path)
    return {name: update(read_peft(folder, m)) for name, m in folder.modules.items()}


@pytest.mark.parametrize("name", METHODS)
@RELAXED
@given(data=st.data())
def test_any_adapters_merge(name: str, data: st.DataObject) -> None:
    """For any members the result opens as an adapter, has every member's modules, is finite and
    stays within the announced rank; or it is zero, and `scale=match` reports that.
    """
    method = METHODS[name]
    with tempfile.TemporaryDirectory() as scratch:
        paths, weights = data.draw(kitchens(method, Path(scratch)))
        options: dict[str, object] = {"scale": data.draw(st.sampled_from([1.0, -0.5, "match"]))}
        if "rank" in method.parameters:
            options["rank"] = data.draw(st.sampled_from(["auto", 1, 3, 100]))
        if "energy" in method.parameters:
            options["energy"] = data.draw(st.sampled_from([None, 0.5, 1.0]))
        dtype = data.draw(st.sampled_from(sorted(DTYPES)))
        try:
            recipe, folders = planned(name, paths, weights, dtype=dtype, **options)
        except IncompatibleAdapters:
            assert method.requirements.last_has_every_module
            return
        out = Path(scratch) / "out"
        try:
            merge(recipe, folders, out, norm_limit=1e9)
        except UnsafeResult as error:
            if options["scale"] == "match" and "cancel out" in str(error):
                return  # the result is zero, and no factor gives it another norm
            raise
        result = open_folder(out)
        members = [open_folder(path) for path in paths]
        assert {module for member in members for module in member.modules} == set(result.modules)
        for module, entry in result.modules.items():
            ranks = [m.modules[module].rank for m in members if module in m.modules]
            announced = method.result_rank(ranks, dict(recipe.options))
            assert entry.rank == announced or (options.get("energy") and entry.rank < announced)
            factors = read_peft(result, entry)
            assert is_finite(factors.a)
            assert is_finite(factors.b)


@pytest.mark.parametrize("name", ["cat", "linear", "average", "compress"])
@RELAXED
@given(data=st.data())
def test_the_linear_family_is_exact(name: str, data: st.DataObject) -> None:
    """Sums and means at full rank are those of the members' updates, scales of every kind folded
    in, to float32 rounding.
    """
    with tempfile.TemporaryDirectory() as scratch:
        paths, weights = data.draw(kitchens(METHODS[name], Path(scratch)))
        recipe, folders = planned(name, paths, weights, dtype="float32")
        merge(recipe, folders, Path(scratch) / "out", norm_limit=1e9)
        given = [updates(path) for path in paths]
        for module, actual in updates(Path(scratch) / "out").items():
            pairs = [(w, u[module]) for w, u in zip(weights, given, strict=True) if module in u]
            count = len(pairs) if name == "average" else 1
            expected = torch.stack([w * u for w, u in pairs]).sum(0) / count
            size = sum(float((w * u).abs().max()) for w, u in pairs)
            torch.testing.assert_close(actual, expected, rtol=0.0, atol=3e-6 * size)
