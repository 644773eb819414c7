"""Every command on a full disk and on one that cannot be written: one sentence and exit code 1.

Commands that have nothing to write may do their work.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.main import get_command
from typer.testing import Result

from merge.peft_format import digest_folder
from merge.recipe import Ingredient, Recipe
from registry.service import Registry
from server.cli import app
from tests.reading import read_adapter
from tests.server.commands import adapter, failed
from tests.server.conftest import BASE, DEMO, Weft
from tests.server.disks import full_disk, read_only
from tests.server.jobs.conftest import examples

ZORP, ARTIFACT = "zorp@1", digest_folder(DEMO / "adapters" / "glix")
DONE, WAITING = "ftjob-" + "0" * 24, "ftjob-" + "1" * 24
MEASURED = ("--dataset", "d", "--metric", "m", "--value", 1)
# What is given here has them look, or find nothing to do.
READING = {
    "adapters evaluations", "adapters lineage", "adapters list", "adapters show", "artifacts list",
    "artifacts show", "audit", "bases list", "bases show", "check", "compositions evaluations",
    "compositions list", "compositions show", "db embed", "db upgrade", "explain", "gc",
    "jobs list", "jobs show", "keys list", "policies list", "search", "usage",
}  # fmt: skip
WORDS: Mapping[str, Sequence[object]] = {
    "adapt": ("examples.jsonl",),
    "adapters alias": ("zorp", "stable", 1),
    "adapters evaluate": ("zorp", *MEASURED),
    "adapters evaluations": ("zorp",),
    "adapters examples": ("zorp", "lines.txt"),
    "adapters export": ("zorp", "out"),
    "adapters import": (DEMO / "adapters" / "zorp", "--name", "again"),
    "adapters lineage": ("zorp",),
    "adapters list": (),
    "adapters probe": (ZORP,),
    "adapters push": ("zorp", "hf:acme/zorp"),
    "adapters quarantine": (ZORP, "--reason", "odd"),
    "adapters release": (ZORP,),
    "adapters retire": ("spare@1",),
    "adapters show": ("zorp",),
    "adapters tag": ("zorp", "legal"),
    "adapters visibility": ("zorp", "public"),
    "artifacts export": (ARTIFACT, "out"),
    "artifacts list": (),
    "artifacts show": (ARTIFACT,),
    "audit": (),
    "bases add": ("acme/other", "--model", DEMO / "base"),
    "bases list": (),
    "bases show": (BASE,),
    "check": (DEMO / "adapters" / "zorp",),
    "cluster up": (),
    "compositions add": ("mix", "cat(zorp, blim)"),
    "compositions alias": ("mix", "stable", 1),
    "compositions evaluate": ("mix", *MEASURED),
    "compositions evaluations": ("mix",),
    "compositions list": (),
    "compositions publish": ("mix@1", "mixed"),
    "compositions retire": ("mix@1",),
    "compositions show": ("mix",),
    "compositions visibility": ("mix", "public"),
    "compositions warm": ("mix",),
    "convert": ("pickled", "--out", "out"),
    "db dump": ("new.gz",),
    "db embed": (),
    "db restore": ("old.gz", "--home", "elsewhere"),
    "db upgrade": (),
    "explain": ("cat(zorp, blim)",),
    "demo": ("--once", "--home", "home"),
    "gc": ("--delete",),
    "jobs cancel": (WAITING,),
    "jobs list": (),
    "jobs publish": (DONE, "base"),
    "jobs show": (DONE,),
    "keys create": ("ci", "--role", "read"),
    "keys limit": ("old", "--requests", 5),
    "keys list": (),
    "keys revoke": ("old",),
    "merge": ("cat", DEMO / "adapters" / "zorp", DEMO / "adapters" / "blim", "--out", "out"),
    "policies add": ("deny", "tag:law", "--reason", "odd"),
    "policies list": (),
    "policies remove": (1,),
    "search": ("law",),
    "serve": (),
    "usage": (),
}


@pytest.fixture
def things(weft: Weft, registry: Registry, tmp_path: Path) -> None:
    """Create the files that the commands above take."""
    (tmp_path / "lines.txt").write_text("one\ntwo\n")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    config = (adapter("zorp") / "adapter_config.json").read_text()
    (pickled / "adapter_config.json").write_text(config)
    weights = load_file(adapter("zorp") / "adapter_model.safetensors")
    torch.save(weights, pickled / "adapter_model.bin")
    zorp = read_adapter(registry, "zorp").versions[0].digest
    recipe = Recipe("cat", 1, BASE, (Ingredient(zorp, 1.0),), (), "float32")
    key = recipe.digest()
    registry.compositions.save_recipe(recipe.canonical(), key, BASE, recipe.lineage)
    registry.compositions.record_artifact(key, ARTIFACT, bytes=1, seconds=1.0, report={})
    shutil.copytree(adapter("glix"), tmp_path / "home" / "artifacts" / ARTIFACT)
    (tmp_path / "examples.jsonl").write_text(examples())
    lay_out_jobs(registry)
    for words in (
        ("adapters", "import", adapter("blim"), "--name", "spare"),
        ("compositions", "add", "mix", "cat(zorp, plov)"),
        ("keys", "create", "old", "--role", "read"),
        ("policies", "add", "deny", "tag:tax", "--reason", "odd"),
        ("db", "dump", "old.gz"),
    ):
        result = weft(*words)
        assert result.exit_code == 0, result.output


def lay_out_jobs(registry: Registry) -> None:
    """Create a succeeded job and a queued one."""
    file, base = "file-" + "0" * 24, {"name": "base", "members": [], "serve": {"kind": "base"}}
    registry.files.add(id=file, filename="x", purpose="fine-tune", bytes=0, digest="0" * 64)
    request = {"options": {"method": "recycle"}, "pool": "", "members": [], "serve": "best",
               "metadata": {}}  # fmt: skip
    report = {"candidates": [base], "ranked": [], "published": None, "served": None, "sentence": ""}
    for job in (DONE, WAITING):
        registry.jobs.create(
            id=job, base=BASE, request=request, training_file=file, name="bot", seed=0
        )
        if job == DONE:
            assert registry.jobs.claim("w", "cpu") is not None
            registry.jobs.finish(job, "w", "succeeded", report=report)


def commands() -> list[str]:
    """Return every command of the CLI, groups before their commands."""
    found: list[str] = []
    top: Any = get_command(app)
    for name, command in top.commands.items():
        below = getattr(command, "commands", None)
        found += [name] if below is None else [f"{name} {sub}" for sub in below]
    return sorted(found)


def test_every_command_is_tried() -> None:
    """A new command is added above; `status`, the console and two of `cluster` only ask what runs,
    `doctor` says what is wrong with a disk (test_doctor.py), a node tells its engine
    (test_node.py), and what goes into an object store is only read here.
    """
    others = "cluster down,cluster status,console,doctor,node,status,store upload".split(",")
    assert commands() == sorted([*WORDS, *others])


@pytest.mark.usefixtures("things")
@pytest.mark.slow
def test_on_a_read_only_disk(weft: Weft, tmp_path: Path) -> None:
    """Every command that writes fails with its reason."""
    with read_only(tmp_path):
        for command, words in WORDS.items():
            said_or_done(command, weft(*command.split(), *words))


@pytest.mark.usefixtures("things")
@pytest.mark.slow
def test_on_a_full_disk(weft: Weft) -> None:
    """Every command that must write fails with its reason."""
    for command, words in WORDS.items():
        with full_disk(0):
            result = weft(*command.split(), *words)
        said_or_done(command, result)


def said_or_done(command: str, result: Result) -> None:
    """Check that a command failed because of the disk, or succeeded without it."""
    if command in READING and result.exit_code == 0:
        return
    assert isinstance(result.exception, SystemExit), (command, result.exception)
    assert result.exit_code == 1, (command, result.output)
    assert "Traceback" not in result.output, command
    assert re.search(r"^error: ", result.stderr, re.MULTILINE), (command, result.output)
    assert says_why(result.stderr), (command, result.stderr)


def says_why(text: str) -> bool:
    """Return whether an error names the disk or the database as its reason."""
    reasons = ("disk", "database", "Permission denied", "File too large", "No space", "no room",
               "stored", "written", "Read-only")  # fmt: skip
    return any(reason in text for reason in reasons)


@pytest.mark.usefixtures("things")
@pytest.mark.parametrize(
    "command", ["adapters import", "merge", "convert", "db dump", "db restore"]
)
def test_on_a_disk_that_fills_up(weft: Weft, command: str) -> None:
    """Wherever the space ends, partial work is undone, and the command succeeds once there is
    space.
    """
    words = [*command.split(), *WORDS[command]]
    for room_bytes in (2_000, 40_000, 100_000, 200_000):
        with full_disk(room_bytes):
            result = weft(*words)
        if result.exit_code == 0:  # it needed no more
            return
        failed(result)
    again = weft(*words)
    assert again.exit_code == 0, again.output
