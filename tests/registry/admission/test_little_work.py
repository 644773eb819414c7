"""Admission does little work for adapters that are made to cause much."""

import difflib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from registry.admission.admit import AdmissionPolicy, admit
from registry.types import AdmissionReport, Base
from tests.growth import LINEAR, growth
from tests.registry.admission.test_admit import _admit
from tests.registry.conftest import PREFIX, write_adapter


def test_many_unknown_modules_take_little_time(
    tmp_path: Path, tiny_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of unknown modules cost one search for a near name."""
    shapes = {f"model.layers.{n}.self_attn.q_proj": (16, 16) for n in range(200)}
    made = {
        f"{PREFIX}model.layers.{n}.self_attn.q_projx.lora_{side}.weight": np.ones(
            (1, 16) if side == "A" else (16, 1), dtype=np.float32
        )
        for n in range(1000)
        for side in "AB"
    }
    folder = write_adapter(tmp_path, made, r=1)
    searches: list[str] = []

    def near(text: str, *_: object, **__: object) -> list[str]:
        searches.append(text)
        return ["model.layers.0.self_attn.q_proj"]

    monkeypatch.setattr(difflib, "get_close_matches", near)
    report = _admit(folder, replace(tiny_base, shapes=shapes))
    assert 1 == len(searches)
    (finding,) = (f for f in report.findings if f.problem.code == "A040 module-unknown")
    assert "such as model.layers.0.self_attn.q_proj" in finding.problem.expected
    assert "1000 such" in finding.problem.found


@pytest.mark.parametrize("given", [True, False])
def test_the_name_of_a_base_is_bounded(tmp_path: Path, tiny_base: Base, given: bool) -> None:
    """A name of more than 300 characters is refused before it is compared with anything."""
    base = tiny_base if given else None

    def check(times: int) -> Callable[[], AdmissionReport]:
        name = "x/y" + "-4bit" * times
        folder = write_adapter(tmp_path / str(times), base_model_name_or_path=name)
        return lambda: admit(folder, base, AdmissionPolicy(), known=[tiny_base])

    assert growth(check, 200_000) < LINEAR
    report = check(200_000)()
    (finding,) = (f for f in report.findings if f.severity == "refuse")
    assert (
        "A037 base-name-length: adapter_config.json: expected base_model_name_or_path of at most "
        "300 characters, found 1000003 characters" == str(finding.problem)
    )
