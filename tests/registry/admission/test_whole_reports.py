"""One cause is one finding, and a finding in one part does not stop the other checks."""

from pathlib import Path

import numpy as np
import pytest

from registry.admission.admit import AdmissionPolicy, admit
from registry.types import Base
from tests.registry.admission.test_findings import (
    HAZARDS,
    A,
    Damage,
    base_copies,
    config,
    link,
    weights,
)
from tests.registry.conftest import tensors, write_adapter


@pytest.mark.parametrize("code", ["A011 not-lora", "A023 mlx-format", "A024 adapterhub-format"])
def test_another_format_is_the_one_finding(tmp_path: Path, tiny_base: Base, code: str) -> None:
    """Another format is the only finding, whatever else the folder holds."""
    HAZARDS["A060 other-files"](write_adapter(tmp_path / "a"))
    HAZARDS[code](tmp_path / "a")
    report = admit(tmp_path / "a", None, AdmissionPolicy(), known=[tiny_base])
    assert [code] == [item.problem.code for item in report.findings]


def test_a_wrong_base_is_one_row_per_cause(tmp_path: Path, tiny_base: Base) -> None:
    """Four modules of wrong shapes are one A041 with the number of tensors."""
    names = [f"model.layers.{i}.{m}" for i in (0, 1) for m in ("self_attn.q_proj", "mlp.up_proj")]
    made = {n: np.ones((2, 7) if "_A" in n else (9, 2), "f4") for n in tensors(*names)}
    folder = write_adapter(tmp_path / "a", made)
    findings = admit(folder, tiny_base, AdmissionPolicy()).findings
    assert ["A041 module-shape"] == [item.problem.code for item in findings]
    assert "(8 such in all)" in findings[0].problem.found


@pytest.mark.parametrize("damage", [config(use_dora=True), config(r=...), link("elsewhere")])
def test_config_and_weights_hide_neither_base_nor_shapes_nor_numbers(
    tmp_path: Path, tiny_base: Base, damage: Damage
) -> None:
    """A finding in config or weights does not stop the other checks."""
    made = tensors() | {A: np.full((2, 15), np.nan, dtype=np.float32)}
    folder = write_adapter(tmp_path / "a", made, base_model_name_or_path="acme/Other")
    damage(folder)
    report = admit(folder, tiny_base, AdmissionPolicy())
    codes = {item.problem.code for item in report.findings}
    assert {"A031 base-mismatch", "A041 module-shape", "A050 not-finite"} <= codes


def test_the_copies_of_the_base_are_noted_and_never_stored(tmp_path: Path, tiny_base: Base) -> None:
    """Copies are not counted; copies of a resized vocabulary are refused."""
    plain = admit(write_adapter(tmp_path / "a"), tiny_base, AdmissionPolicy())
    weights(lambda t: t | base_copies(40))(write_adapter(tmp_path / "b"))
    copied = admit(tmp_path / "b", tiny_base, AdmissionPolicy())
    assert copied.accepted
    assert copied.facts is not None
    assert plain.facts is not None
    assert copied.facts.bytes - plain.facts.bytes < 1000  # longer header, no copy
    weights(lambda t: t | base_copies(41))(write_adapter(tmp_path / "c"))
    (problem,) = admit(tmp_path / "c", tiny_base, AdmissionPolicy()).problems
    assert ("A026 whole-layer", "(41, 16), as of a resized vocabulary (2 such in all)") == (
        problem.code, problem.found,
    )  # fmt: skip
