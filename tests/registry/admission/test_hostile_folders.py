"""Untrusted folders: each case damages a good adapter, and a report describes the damage."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from registry.admission.admit import AdmissionPolicy, admit
from registry.bases import base_keys
from registry.types import Base
from tests.registry.conftest import BASE, SHAPES, Q, write_adapter

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def _weights(folder: Path, data: bytes) -> None:
    (folder / WEIGHTS).write_bytes(data)


def _cut(folder: Path) -> None:
    _weights(folder, (folder / WEIGHTS).read_bytes()[:-4])


def _mlx(folder: Path) -> None:
    save_file({f"{Q}.lora_a": np.ones((16, 2), dtype=np.float32)}, folder / WEIGHTS)


def _config(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        document = json.loads((folder / CONFIG).read_text()) | changes
        (folder / CONFIG).write_text(json.dumps(document))

    return change


def _pickle(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


@pytest.mark.parametrize(
    ("damage", "code", "file"),
    [
        (_cut, "A007", WEIGHTS),
        (_mlx, "A009", WEIGHTS),
        (_pickle, "A003", "adapter_model.bin"),
        (lambda f: _weights(f, b"\0" * 100_000), "A005", WEIGHTS),
        (lambda f: _weights(f, b"\xff" * 100), "A005", WEIGHTS),
        (lambda f: _weights(f, b""), "A005", WEIGHTS),
        (lambda f: _weights(f, b"version https://git-lfs.github.com/spec/v1\n"), "A004", WEIGHTS),
        (lambda f: _weights(f, (2).to_bytes(8, "little") + b"{}"), "A008", WEIGHTS),
        (lambda f: (f / CONFIG).write_text("[1"), "A010", CONFIG),
        (_config(peft_type="IA3"), "A011", CONFIG),
        (_config(r=0), "A012", CONFIG),
        (_config(lora_alpha=None), "A013", CONFIG),
        (_config(use_dora=True), "A014", CONFIG),
        (_config(modules_to_save=["lm_head"]), "A014", CONFIG),
        (_config(init_lora_weights="pissa"), "A014", CONFIG),
        (_config(rank_pattern={"(a+)+": 2}), "A015", CONFIG),
        (_config(r=4), "A021", WEIGHTS),
    ],
)
def test_what_is_no_served_lora_is_refused_by_name(
    tmp_path: Path, tiny_base: Base, damage: Callable[[Path], None], code: str, file: str
) -> None:
    """Every hazard gives a report that names the file and the expectation."""
    folder = write_adapter(tmp_path)
    damage(folder)
    report = admit(folder, tiny_base, AdmissionPolicy())
    assert not report.accepted
    assert {code} == {problem.code.split()[0] for problem in report.problems}
    assert all(p.file == file and p.expected and p.found for p in report.problems)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from([CONFIG, WEIGHTS]),
    position=st.integers(0, 1500),
    removed=st.integers(0, 30),
    inserted=st.binary(max_size=12),
)
def test_random_damage_ends_in_a_report(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    position: int,
    removed: int,
    inserted: bytes,
) -> None:
    """Overwritten, removed or added bytes give a JSON report, never a traceback."""
    folder = write_adapter(tmp_path_factory.mktemp("damaged"))
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:position] + inserted + data[position + removed :])
    base = Base(BASE, None, SHAPES, base_keys(BASE, ()))
    report = admit(folder, None, AdmissionPolicy(), known=[base])
    json.dumps(report.to_json(), allow_nan=False)
