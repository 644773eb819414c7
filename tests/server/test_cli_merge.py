"""`weft merge`: from folders, and from a recipe file."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from merge.peft_format import open_folder
from registry.service import Registry
from tests.adapters import make_adapter, write_folder
from tests.server.commands import DigestOf, adapter, failed
from tests.server.conftest import Weft


def test_merge_writes_a_folder(weft: Weft, tmp_path: Path) -> None:
    """Folders, weights and options become one adapter, and one line reports the result."""
    out = tmp_path / "out"
    result = weft("merge", "linear", adapter("zorp"), adapter("blim"), "--out", out,
                  "--weights", "0.7,-0.5", "--rank", "4", "--option", "scale=0.5")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "out" in result.stdout
    assert open_folder(out).rank == 4
    recipe = json.loads((out / "recipe.json").read_text())
    assert [0.7, -0.5] == [item["weight"] for item in recipe["ingredients"]]
    assert (4, 0.5) == (recipe["options"]["rank"], recipe["options"]["scale"])


def test_merge_needs_no_registry(
    weft: Weft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge reads and writes only the given folders."""
    monkeypatch.delenv("WEFT_HOME")
    result = weft("merge", "lego", adapter("zorp"), adapter("blim"), "--out", tmp_path / "out",
                  "--seed", "7", "--dtype", "float32")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "weft-home").exists()


def test_a_recipe_file_says_it_all(weft: Weft, tmp_path: Path) -> None:
    """A YAML file with folders beside it, weights by pattern and options equals the same command
    in words, and has the same plan.
    """
    for name in ("zorp", "blim"):
        (tmp_path / name).symlink_to(adapter(name))
    (tmp_path / "mix.yaml").write_text(
        """
        method: linear
        adapters:
          - {path: zorp, weight: 0.7, weights: {"*.mlp.*": 0.2}}
          - {path: blim, weight: -0.5}
        options: {rank: 4, scale: 0.5}
        dtype: float32
        """
    )
    result = weft("merge", tmp_path / "mix.yaml", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "linear of 2" in result.stdout
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert [["*.mlp.*", 0.2]] == recipe["ingredients"][0]["modules"]
    assert ("float32", 4, 0.5) == (
        recipe["dtype"], recipe["options"]["rank"], recipe["options"]["scale"],
    )  # fmt: skip


def test_a_recipe_file_may_name_adapters_of_the_registry(
    weft: Weft, tmp_path: Path, digest_of: DigestOf, registry: Registry
) -> None:
    """`name:` is a reference: an alias is resolved at once, and only adapters are accepted."""
    path = tmp_path / "mix.json"
    plain = {"method": "cat", "adapters": [{"name": "zorp@prod"}, {"path": str(adapter("blim"))}]}
    path.write_text(json.dumps(plain))
    result = weft("merge", path, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert digest_of("zorp") == recipe["ingredients"][0]["digest"]
    assert weft("compositions", "add", "mix", "cat(zorp, blim)").exit_code == 0
    for name, says in (
        ("zrop", "zorp"),
        ("mix", "mix is a composition"),
        ("a b", "'a b' is not a reference"),
    ):
        path.write_text(json.dumps({"method": "cat", "adapters": [{"name": name}]}))
        failed(weft("merge", path, "--out", tmp_path / "other"), says)


@pytest.mark.parametrize(
    ("text", "more", "says"),
    [
        ("{method: cat, adapters: []}", [], "mix.yaml: adapters: expected a list of at least one"),
        ("{method: cat, adapters: [{path: x}]}", [], "adapter_config.json"),
        (
            "{method: cat, adapters: [{path: x}]}",
            ["--rank", "4"],
            "is a recipe file: only --out and --threads apply",
        ),
        (
            "{method: cat, adapters: [{path: x}]}",
            ["--dtype", "float16"],
            "is a recipe file: only --out and --threads apply",
        ),
        (
            "{method: cat, adapters: [{path: x}]}",
            ["--scale", "2"],
            "is a recipe file: only --out and --threads apply",
        ),
    ],
)
def test_a_recipe_file_that_cannot_be_says_why(
    weft: Weft, tmp_path: Path, text: str, more: Sequence[str], says: str
) -> None:
    """A mistake in the file, or arguments beside it, is one sentence."""
    (tmp_path / "mix.yaml").write_text(text)
    failed(weft("merge", tmp_path / "mix.yaml", "--out", tmp_path / "out", *more), says)
    assert not (tmp_path / "out").exists()


def test_a_recipe_file_that_is_not_there_is_told(weft: Weft, tmp_path: Path) -> None:
    """A missing file is an error that names it."""
    failed(weft("merge", "none.yaml", "--out", tmp_path / "out"), "none.yaml")


def test_bases_are_compared_by_meaning(weft: Weft, tmp_path: Path) -> None:
    """Spellings of one base merge, and so do adapters without a base; other bases are refused,
    and a recipe file's base applies if it is one of theirs.
    """
    said = {"a": "acme/Llama-3-8B", "b": "unsloth/llama-3-8b-bnb-4bit", "c": None, "d": "./x",
            "other": "acme/qwen"}  # fmt: skip
    paths = {
        name: make_adapter(tmp_path / name, seed=i, base=base)
        for i, (name, base) in enumerate(said.items())
    }
    result = weft("merge", "cat", *(paths[n] for n in "dcab"), "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert "acme/Llama-3-8B" == recipe["base"]
    failed(
        weft("merge", "cat", paths["a"], paths["other"], "--out", tmp_path / "no"),
        "other was trained for the base acme/qwen", "a for acme/Llama-3-8B",
    )  # fmt: skip
    (tmp_path / "mix.yaml").write_text("{method: cat, base: llama-3-8B, adapters: [{path: other}]}")
    failed(weft("merge", tmp_path / "mix.yaml", "--out", tmp_path / "no"), "llama-3-8B")


def test_a_local_path_is_not_a_base(weft: Weft, tmp_path: Path) -> None:
    """Adapters with local paths as bases merge once `--base` names the base, and the result
    never holds a path; a mix of named and unnamed bases is merged with a warning.
    """
    private = [make_adapter(tmp_path / n, seed=i, base=f"/home/ann/{n}")
               for i, n in enumerate("ab")]  # fmt: skip
    named = make_adapter(tmp_path / "named", seed=2, base="acme/Llama-3-8B")
    (tmp_path / "mix.yaml").write_text("{method: cat, adapters: [{path: a}, {path: b}]}")
    for words in (("cat", *private), (tmp_path / "mix.yaml",)):
        result = weft("merge", *words, "--out", tmp_path / "no")
        failed(result, f"no adapter names its base ({private[0]}: ", "/home/ann/a", "--base")
    assert not (tmp_path / "no").exists()
    result = weft("merge", "cat", *private, "--out", tmp_path / "x", "--base", "acme/Llama-3-8B")
    assert (0, "") == (result.exit_code, result.stderr)
    assert "acme/Llama-3-8B" == open_folder(tmp_path / "x").config.base
    result = weft("merge", "cat", private[0], named, "--out", tmp_path / "y")
    assert result.exit_code == 0, result.output
    assert f"warning: {private[0]}: the config gives the local path" in result.stderr
    assert "merged as an adapter of acme/Llama-3-8B" in result.stderr
    assert "acme/Llama-3-8B" == open_folder(tmp_path / "y").config.base
    for file in (*(tmp_path / "x").iterdir(), *(tmp_path / "y").iterdir()):
        assert b"/home/ann" not in file.read_bytes()


def test_scale_is_a_word_of_its_own(weft: Weft, tmp_path: Path) -> None:
    """`--scale` is the universal option: a number or match."""
    out = tmp_path / "out"
    result = weft("merge", "cat", adapter("zorp"), "--out", out, "--scale", "match")
    assert result.exit_code == 0, result.output
    assert "match" == json.loads((out / "recipe.json").read_text())["options"]["scale"]
    failed(weft("merge", "cat", adapter("zorp"), "--out", out, "--scale", "0"), "scale takes")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--weights", "1"], "1 numbers for 2 folders"),
        (["--weights", "1,2,3"], "3 numbers for 2 folders"),
        (["--weights", "1,x"], "numbers with commas"),
        (["--weights", "0,0"], "every weight is 0"),
        (["--weights", "nan,1"], "not a finite number"),
        (["--weights", "1e30,1"], "overall norm"),
        (["--option", "rank"], "name=value"),
        (["--option", "colour=red"], "no option 'colour'"),
        (["--rank", "many"], "rank"),
        (["--dtype", "int8"], "int8"),
    ],
)
def test_a_merge_that_cannot_be_says_why(
    weft: Weft, tmp_path: Path, more: Sequence[str], says: str
) -> None:
    """Every invalid option is one sentence and leaves no folder."""
    out = tmp_path / "out"
    failed(weft("merge", "linear", adapter("zorp"), adapter("blim"), "--out", out, *more), says)
    assert not out.exists()


def test_a_merge_of_nothing_readable_names_it(weft: Weft, tmp_path: Path) -> None:
    """An invalid folder, an unknown method and an existing output are named."""
    out = tmp_path / "out"
    missing = tmp_path / "nowhere"
    failed(weft("merge", "linear", missing, "--out", out), "adapter_config.json", str(missing))
    failed(weft("merge", "blend", adapter("zorp"), "--out", out), "blend", "lego")
    failed(weft("merge", "cat", "--out", out), "at least one adapter")
    out.mkdir()
    (out / "mine").touch()
    failed(weft("merge", "linear", adapter("zorp"), "--out", out), "not an empty folder")
    assert (out / "mine").exists()


def test_a_broken_ingredient_is_named(weft: Weft, tmp_path: Path) -> None:
    """A truncated file, a tensor that is not LoRA and a wrong shape are reported with folder,
    tensor or module, the value and the expectation.
    """
    out, good = tmp_path / "out", make_adapter(tmp_path / "good")
    cut = make_adapter(tmp_path / "cut") / "adapter_model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-10])
    failed(weft("merge", "cat", good, cut.parent, "--out", out), str(cut.parent), "A007 file-size")
    strange = tmp_path / "strange"
    write_folder(strange, {"base_model.model.lm_head.weight": torch.ones(3, 3)})
    failed(weft("merge", "cat", good, strange, "--out", out), str(strange), "A026", "lm_head")
    name = "model.layers.0.self_attn.q_proj"
    wide = make_adapter(tmp_path / "wide", modules={name: (32, 16)})
    failed(
        weft("merge", "cat", good, wide, "--out", out),
        f"{good} and {wide} do not fit in {name}", "(16, 16)", "(16, 32)",
    )  # fmt: skip
    assert not out.exists()


def test_a_folder_s_name_is_not_markup(weft: Weft, tmp_path: Path) -> None:
    """Square brackets in a path are printed literally."""
    out = tmp_path / "x[" / "red]y"
    result = weft("merge", "cat", adapter("zorp"), "--out", out)
    assert result.exit_code == 0, result.output
    assert "x[/red]y" in result.stdout
