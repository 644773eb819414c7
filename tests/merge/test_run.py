"""Running a recipe: the files it writes, the errors it raises, and no partial output."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from merge import peft_io, run
from merge import processes as processes_of_a_merge
from merge.errors import IncompatibleAdapters, MergeError, RecipeInvalid, UnsafeResult
from merge.factors import Members, Merged, Stack, Stored
from merge.methods import METHODS
from merge.peft_format import FormatError, WeightsWriter, digest_folder, open_folder
from merge.peft_io import cast, read_peft
from merge.recipe import Recipe
from merge.run import merge
from tests.adapters import MODULES, make_adapter
from tests.laws.laws import whole
from tests.merge.llama import load_in_peft, logits, peft_updates, tiny_llama
from tests.merge.merge_setup import MergeSetup, exact_sum, suiting


@pytest.mark.parametrize("method", ["cat", "linear"])
def test_sums_are_the_sum_for_peft(merge_setup: MergeSetup, method: str) -> None:
    """A merged folder loads in PEFT without missing keys, and its updates are the weighted sum."""
    out = merge_setup.root / "out"
    merge(merge_setup.recipe(method), merge_setup.folders, out)
    expected = exact_sum(merge_setup)
    actual = peft_updates(load_in_peft(out))
    assert expected.keys() == actual.keys()
    for name, x in expected.items():
        torch.testing.assert_close(actual[name], x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["cat", "linear"])
def test_logits_are_those_of_the_sum(merge_setup: MergeSetup, method: str) -> None:
    """The model with the merged adapter has the logits of the dense sum of updates."""
    out = merge_setup.root / "out"
    merge(merge_setup.recipe(method), merge_setup.folders, out)
    model = tiny_llama()
    for name, x in exact_sum(merge_setup).items():
        model.get_submodule(name).weight.data += x.float()
    torch.testing.assert_close(logits(load_in_peft(out)), logits(model), rtol=1e-4, atol=1e-4)


def test_lego_folder_loads_in_peft_as_written(merge_setup: MergeSetup) -> None:
    """A LEGO artifact's update in PEFT is the product of its stored tensors, at scale 1."""
    out = merge_setup.root / "out"
    report = merge(merge_setup.recipe("lego", dtype="bfloat16"), merge_setup.folders, out)
    folder = open_folder(out)
    for name, x in peft_updates(load_in_peft(out)).items():
        f = read_peft(folder, folder.modules[name])
        assert f.scale == 1.0
        torch.testing.assert_close(x, f.b.double() @ f.a.double())
        assert report.modules[name].norm == pytest.approx(float(x.norm()), rel=2e-2)


@pytest.mark.parametrize("method", [m for m in METHODS if "identity" not in METHODS[m].exempt])
def test_one_adapter_comes_back_as_itself(tmp_path: Path, method: str) -> None:
    """A lossless merge of one adapter at weight 1 has the logits of that adapter."""
    merge_setup = MergeSetup(tmp_path, [make_adapter(tmp_path / "a", alpha=12.0)], [1.0])
    recipe = merge_setup.recipe(method, **whole(METHODS[method]))  # type: ignore[arg-type]  # a table
    merge(recipe, merge_setup.folders, tmp_path / "out")
    expected = logits(load_in_peft(tmp_path / "a"))
    torch.testing.assert_close(
        logits(load_in_peft(tmp_path / "out")), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("method", METHODS)
def test_bytes_do_not_depend_on_workers(merge_setup: MergeSetup, method: str) -> None:
    """One worker and four workers write identical config and weights, bit for bit."""
    merge_setup = suiting(merge_setup, method)
    recipe = merge_setup.recipe(method, dtype="bfloat16")
    merge(recipe, merge_setup.folders, merge_setup.root / "one", workers=1)
    merge(recipe, merge_setup.folders, merge_setup.root / "four", workers=4)
    assert digest_folder(merge_setup.root / "one") == digest_folder(merge_setup.root / "four")


@pytest.mark.parametrize(
    ("elements", "affordable", "processes"), [(2**22, 3, 1), (1, 3, 3), (1, 2, 2)]
)
def test_small_merges_and_little_memory_take_few_processes(
    merge_setup: MergeSetup, monkeypatch: pytest.MonkeyPatch, elements: int, affordable: int,
    processes: int,
) -> None:  # fmt: skip
    """A merge has one process for every so many elements, and no more than fit its memory."""
    asked: list[int] = []

    def over(*arguments: Any, processes: int) -> None:
        asked.append(processes)
        processes_of_a_merge.over(*arguments, processes=1)

    monkeypatch.setattr(run, "ELEMENTS_OF_A_PROCESS", elements)
    monkeypatch.setattr(run, "affordable", lambda count, _: min(count, affordable))
    monkeypatch.setattr(run, "over", over)
    merge(merge_setup.recipe("cat"), merge_setup.folders, merge_setup.root / "out", workers=3)
    assert [processes] == asked


def test_methods_may_take_a_group_of_modules(
    merge_setup: MergeSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method with a function of groups gets modules together, each once, to the same bytes."""
    recipe = merge_setup.recipe("linear", rank=3)
    merge(recipe, merge_setup.folders, merge_setup.root / "single")
    groups: list[list[str]] = []

    def group(stacks: Sequence[Stack], **options: Any) -> list[Merged]:
        groups.append([stack.module for stack in stacks])
        return [METHODS["linear"].function(stack, **options) for stack in stacks]

    linear = replace(METHODS["linear"], group=group)
    monkeypatch.setattr("merge.merge_run.find_method", lambda _: linear)
    merge(recipe, merge_setup.folders, merge_setup.root / "grouped")
    assert sorted(MODULES) == [name for names in groups for name in names]
    assert 1 < len(groups) < len(MODULES)
    digests = [digest_folder(merge_setup.root / name) for name in ("single", "grouped")]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.3, -0.5]])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_own_factors_are_written_as_the_files_hold_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: list[float], dtype: str
) -> None:
    """`cat` writes the ingredients' own numbers without widening them, to the same bytes and report
    as if it had computed them."""
    paths = [
        make_adapter(tmp_path / str(seed), seed=seed, alpha=4.0, dtype=dtype) for seed in range(2)
    ]
    merge_setup = MergeSetup(tmp_path, paths, weights)
    recipe = merge_setup.recipe("cat", dtype="bfloat16")
    casts: list[str] = []

    def counted(x: torch.Tensor, dtype: str, module: str) -> torch.Tensor:
        casts.append(module)
        return cast(x, dtype, module)

    monkeypatch.setattr(peft_io, "cast", counted)
    reports = [merge(recipe, merge_setup.folders, tmp_path / "own")]
    as_they_are = len(MODULES) * (0 if dtype != "bfloat16" else 2 if weights == [1.0, 1.0] else 1)
    assert 2 * len(MODULES) - as_they_are == len(casts)
    monkeypatch.setattr(Members, "stored_of", lambda *_: Stored(None, None))
    reports.append(merge(recipe, merge_setup.folders, tmp_path / "cast"))
    assert digest_folder(tmp_path / "own") == digest_folder(tmp_path / "cast")
    assert reports[0].modules == reports[1].modules


def test_thread_setting_is_restored(merge_setup: MergeSetup) -> None:
    """A merge does not change torch's thread count."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        merge(merge_setup.recipe("cat"), merge_setup.folders, merge_setup.root / "out", workers=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_folder_holds_its_recipe_and_report(merge_setup: MergeSetup) -> None:
    """The output folder contains the canonical recipe and the report beside the adapter."""
    recipe = merge_setup.recipe("linear", rank=3)
    report = merge(recipe, merge_setup.folders, merge_setup.root / "out")
    names = {"adapter_config.json", "adapter_model.safetensors", "recipe.json", "report.json"}
    assert names == {path.name for path in (merge_setup.root / "out").iterdir()}
    assert recipe == Recipe.parse((merge_setup.root / "out" / "recipe.json").read_text())
    document = json.loads((merge_setup.root / "out" / "report.json").read_text())
    assert document == json.loads(report.to_json())


def test_zero_weights_are_left_out(merge_setup: MergeSetup) -> None:
    """An ingredient at weight 0 does not change the result, including its rank."""
    zeroed = MergeSetup(merge_setup.root, merge_setup.paths, [1.0, 0.0, 0.0])
    merge(zeroed.recipe("cat"), zeroed.folders, merge_setup.root / "out")
    only = MergeSetup(merge_setup.root, merge_setup.paths[:1], [1.0])
    merge(only.recipe("cat"), only.folders, merge_setup.root / "only")
    assert digest_folder(merge_setup.root / "only") == digest_folder(merge_setup.root / "out")


def test_disjoint_modules_are_all_kept(tmp_path: Path) -> None:
    """A merge of adapters that share no module has the modules of all of them."""
    items = list(MODULES.items())
    merge_setup = MergeSetup(
        tmp_path,
        [
            make_adapter(tmp_path / "a", modules=dict(items[:2])),
            make_adapter(tmp_path / "b", modules=dict(items[2:]), rank=2),
        ],
        [1.0, 1.0],
    )
    for method in ("cat", "linear", "lego"):
        merge(merge_setup.recipe(method), merge_setup.folders, tmp_path / method)
        assert set(MODULES) == set(open_folder(tmp_path / method).modules)
        load_in_peft(tmp_path / method)


def test_progress_counts_every_module(merge_setup: MergeSetup) -> None:
    """Progress is reported after each module and ends at the number of modules."""
    calls: list[tuple[int, int]] = []
    merge(
        merge_setup.recipe("cat"),
        merge_setup.folders,
        merge_setup.root / "out",
        workers=2,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert [(i + 1, len(MODULES)) for i in range(len(MODULES))] == calls


def test_existing_output_is_refused(merge_setup: MergeSetup) -> None:
    """An output folder that is not empty is refused and left unchanged."""
    (merge_setup.root / "out").mkdir()
    (merge_setup.root / "out" / "precious").write_text("x")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        merge(merge_setup.recipe("cat"), merge_setup.folders, merge_setup.root / "out")
    assert ["out"] == merge_setup.left()
    assert "x" == (merge_setup.root / "out" / "precious").read_text()


def test_empty_output_folder_is_used(merge_setup: MergeSetup) -> None:
    """An existing empty output folder is used."""
    (merge_setup.root / "out").mkdir()
    merge(merge_setup.recipe("cat"), merge_setup.folders, merge_setup.root / "out")
    assert open_folder(merge_setup.root / "out").modules.keys() == MODULES.keys()


@pytest.mark.parametrize("scale", [1.0, "match"])
@pytest.mark.parametrize("workers", [1, 3])
def test_full_disk_leaves_nothing(
    merge_setup: MergeSetup, monkeypatch: pytest.MonkeyPatch, workers: int, scale: object
) -> None:
    """A disk that fills up during a merge raises OSError and leaves nothing at or beside `out`."""
    write, last = WeightsWriter.write, list(MODULES)[-1]

    def full(self: WeightsWriter, name: str, data: bytes | memoryview) -> None:
        if last in name:
            raise OSError(28, "No space left on device")
        write(self, name, data)

    monkeypatch.setattr(WeightsWriter, "write", full)
    recipe = merge_setup.recipe("cat", scale=scale)
    with pytest.raises(OSError, match="No space left"):
        merge(recipe, merge_setup.folders, merge_setup.root / "out", workers=workers)
    assert [] == merge_setup.left()


def test_failing_progress_leaves_nothing(merge_setup: MergeSetup) -> None:
    """An interrupted merge, also by Ctrl-C, leaves no partial output."""

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(
            merge_setup.recipe("cat"),
            merge_setup.folders,
            merge_setup.root / "out",
            progress=interrupt,
        )
    assert [] == merge_setup.left()


def refused(merge_setup: MergeSetup, recipe: Recipe, error: type[Exception], match: str) -> None:
    """Check that a merge is refused with this error and leaves nothing."""
    with pytest.raises(error, match=match):
        merge(recipe, merge_setup.folders, merge_setup.root / "out")
    assert [] == merge_setup.left()


def test_enormous_result_is_refused(tmp_path: Path) -> None:
    """`1e30*a` is refused by its norm, naming the limit, and nothing is written."""
    merge_setup = MergeSetup(tmp_path, [make_adapter(tmp_path / "a")], [1e30])
    refused(
        merge_setup, merge_setup.recipe("cat"), UnsafeResult, "overall norm of .* limit of 1000"
    )


@pytest.mark.parametrize("method", ["cat", "linear"])
def test_overflow_of_float32_is_refused(tmp_path: Path, method: str) -> None:
    """A weight that makes the sum overflow float32 is refused with the module's name."""
    merge_setup = MergeSetup(tmp_path, [make_adapter(tmp_path / "a")], [1e300])
    refused(
        merge_setup, merge_setup.recipe(method), UnsafeResult, r"model\.layers.*overflows float32"
    )


def test_overflow_of_the_dtype_is_refused(tmp_path: Path) -> None:
    """A sum that fits float32 but not the output dtype is refused with the module's name."""
    merge_setup = MergeSetup(tmp_path, [make_adapter(tmp_path / "a")], [1e6])
    recipe = merge_setup.recipe("cat", dtype="float16")
    refused(merge_setup, recipe, UnsafeResult, r"model\.layers.*does not fit F16")


def test_norm_limit_counts_the_scale(merge_setup: MergeSetup) -> None:
    """The norm limit applies to the scaled update: above it a merge is refused, below it not."""
    norm = merge(
        merge_setup.recipe("cat"), merge_setup.folders, merge_setup.root / "x"
    ).overall.norm
    recipe = merge_setup.recipe("cat", scale=2.0)
    with pytest.raises(UnsafeResult, match="above the limit"):
        merge(recipe, merge_setup.folders, merge_setup.root / "out", norm_limit=1.9 * norm)
    report = merge(recipe, merge_setup.folders, merge_setup.root / "out", norm_limit=2.1 * norm)
    assert report.overall.norm == pytest.approx(2.0 * norm)


def test_nan_ingredient_is_named(merge_setup: MergeSetup) -> None:
    """An ingredient with NaN is refused by digest and module, before a method runs on it."""
    path = merge_setup.paths[1] / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-2:] = b"\xc0\x7f"  # bfloat16 NaN
    path.write_bytes(data)
    match = f"{merge_setup.digests[1][:12]} holds NaN"
    refused(merge_setup, merge_setup.recipe("lego"), IncompatibleAdapters, match)


def test_shapes_are_checked_against_the_files(merge_setup: MergeSetup) -> None:
    """Folders whose shapes disagree are refused, even if the plan had other shapes."""
    wide = {name: (d_in + 1, d_out) for name, (d_in, d_out) in MODULES.items()}
    other = make_adapter(merge_setup.root / "wide", modules=wide)
    merge_setup.paths.append(other)
    folders = {**merge_setup.folders, merge_setup.digests[1]: other}
    with pytest.raises(IncompatibleAdapters, match=r"\(24, 16\).*\(24, 17\)"):
        merge(merge_setup.recipe("cat"), folders, merge_setup.root / "out")
    assert [] == merge_setup.left()


def test_truncated_ingredient_is_a_format_error(merge_setup: MergeSetup) -> None:
    """An ingredient with a truncated file raises a format error."""
    path = merge_setup.paths[0] / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    refused(merge_setup, merge_setup.recipe("cat"), FormatError, "A007 file-size")


def test_missing_folder_is_named(merge_setup: MergeSetup) -> None:
    """A recipe with an ingredient whose folder is not given is refused, naming the ingredient."""
    with pytest.raises(RecipeInvalid, match=merge_setup.digests[2]):
        merge(
            merge_setup.recipe("cat"),
            {digest: merge_setup.folders[digest] for digest in merge_setup.digests[:2]},
            merge_setup.root / "out",
        )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"method": "catt"}, "did you mean cat"),
        ({"revision": 99}, "revision 99"),
        ({"options": ()}, "options are missing"),
        ({"options": (("scale", 1),)}, "options are missing"),
        ({"options": (("scale", 1.0), ("rank", 3))}, "no option 'rank'"),
    ],
)
def test_recipe_of_another_weft_is_refused(
    merge_setup: MergeSetup, change: dict[str, object], match: str
) -> None:
    """A recipe that this weft would not have planned is refused, so a digest has one meaning."""
    recipe = replace(merge_setup.recipe("cat"), **change)  # type: ignore[arg-type]  # a table
    refused(merge_setup, recipe, RecipeInvalid, match)


def test_unresolved_rank_is_refused(merge_setup: MergeSetup) -> None:
    """A recipe whose rank is still `auto` is refused."""
    options = (("energy", None), ("rank", "auto"), ("scale", 1.0))
    recipe = replace(merge_setup.recipe("linear"), options=options)
    refused(merge_setup, recipe, RecipeInvalid, "plan it again")


def test_every_refusal_is_a_merge_error() -> None:
    """All errors of a refused merge have one base class for the server to catch."""
    assert all(
        issubclass(e, MergeError) for e in (RecipeInvalid, IncompatibleAdapters, UnsafeResult)
    )
