"""Settings of several bases: what each has of its own, and what cannot be."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from server.cli import app
from server.engine.command import engine_command
from server.settings import Settings

TWO = {
    "small": {"model": "acme/small", "max_lora_rank": 16, "max_loras": 2, "dtype": "float32"},
    "large": {"model": "acme/large", "engine_args": "--tensor-parallel-size 4"},
}


def test_one_base_has_the_settings_themselves() -> None:
    """Without `bases` there is one base, the model's."""
    settings = Settings(model="acme/one")
    assert (settings,) == settings.of_bases()
    assert "acme/one" == settings.served_base


def test_each_base_overrides_what_holds_for_all() -> None:
    """A base has its name, its model and its own options; the rest is that of the server."""
    small, large = Settings(bases=TWO, max_loras=4, engine_args="--seed 1").of_bases()
    assert ("small", "acme/small", 16, 2, "float32", "--seed 1") == (
        small.served_base, small.model, small.max_lora_rank, small.max_loras, small.merge_dtype,
        small.engine_args,
    )  # fmt: skip
    assert ("large", "acme/large", 64, 4, "bfloat16", "--tensor-parallel-size 4") == (
        large.served_base, large.model, large.max_lora_rank, large.max_loras, large.merge_dtype,
        large.engine_args,
    )  # fmt: skip
    command = engine_command(large, 1)
    names = [command[command.index(f"--{n}") + 1] for n in ("model", "served-model-name")]
    assert ["acme/large", "large"] == names


def test_bases_of_the_file_take_what_flags_add(tmp_path: Path) -> None:
    """The file's first base stays the first; a flag changes its model or adds another base."""
    (tmp_path / "weft.toml").write_text(
        '[bases."acme/a"]\nmodel = "/models/a"\ndtype = "float16"\n[bases.b]\nmodel = "/models/b"\n'
    )
    flags = {"acme/a": {"model": "/new/a"}, "c": {"model": "/models/c"}}
    bases = Settings(home=tmp_path, bases=flags).of_bases()
    assert [("acme/a", "/new/a"), ("b", "/models/b"), ("c", "/models/c")] == [
        (own.served_base, own.model) for own in bases
    ]
    assert "float16" == bases[0].dtype


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bases": TWO, "model": "acme/one"}, "bases come in place of model and served_base"),
        ({"bases": TWO, "served_base": "one"}, "bases come in place of model and served_base"),
        ({"bases": TWO, "engine_port": 8001}, "engine_port is for one engine"),
        ({"bases": {"a": {"model": ""}}}, "bases.a.model"),
        ({"bases": {"": {"model": "m"}}}, "a base has no name"),
        ({"bases": {"a": {}}}, "bases.a.model"),
        ({"bases": {"a": {"model": "m", "rank": 3}}}, "bases.a.rank"),
        ({"bases": {"a": {"model": "m", "max_lora_rank": 3}}}, "vLLM takes one of 1, 8"),
        (
            {"bases": {"a": {"model": "m", "max_loras": 64}}},
            "max_cpu_loras must be at least max_loras for a",
        ),
    ],
)
def test_what_cannot_be_is_named(given: dict[str, Any], message: str) -> None:
    """An option that a base cannot have stops the start, and the error names base and option."""
    with pytest.raises(ValidationError) as caught:
        Settings(**given)
    assert message in str(caught.value)


def test_serve_takes_a_base_by_name_and_model(tmp_path: Path) -> None:
    """`--base` that is not NAME=MODEL is told before anything starts."""
    for wrong in ("llama", "=m", "llama="):
        ended = CliRunner().invoke(app, ["serve", "--home", str(tmp_path), "--base", wrong])
        assert 1 == ended.exit_code
        assert f"--base takes NAME=MODEL, not {wrong}" in ended.stderr
