"""Admission: an admitted adapter can be served, and a refusal says how to correct it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from registry.admission.admit import AdmissionPolicy, admit
from registry.bases import base_keys
from registry.types import AdmissionReport, Base, Finding
from tests.registry.conftest import (
    BASE,
    DOWN,
    PREFIX,
    SHAPES,
    Q,
    tensors,
    write_adapter,
)

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def _admit(folder: Path, base: Base | None, **policy: float) -> AdmissionReport:
    limits = AdmissionPolicy(
        norm_limit=policy.get("norm_limit", 1000.0),
        max_rank=None if "max_rank" not in policy else int(policy["max_rank"]),
    )
    return admit(folder, base, limits, known=[] if base is None else [base])


def _only(report: AdmissionReport) -> Finding:
    assert 1 == len(report.findings), [str(f.problem) for f in report.findings]
    return report.findings[0]


def test_a_good_adapter_is_accepted_with_its_facts(tmp_path: Path, tiny_base: Base) -> None:
    """A good adapter has no findings, and its rank, modules, dtype, size and norms are measured."""
    report = _admit(write_adapter(tmp_path), tiny_base)
    assert report.accepted
    assert () == report.findings
    assert report.facts is not None
    assert 2 == report.facts.rank
    assert [Q, DOWN] == list(report.facts.modules)
    q = report.facts.modules[Q]
    assert (2, 16, 16, 4.0, "linear") == (q.rank, q.d_in, q.d_out, q.alpha, q.kind)
    assert ("F32",) == report.facts.dtypes
    assert (tmp_path / WEIGHTS).stat().st_size == report.facts.bytes
    assert BASE == report.base
    assert BASE == report.facts.base_said


def test_norms_are_those_of_the_scaled_updates(tmp_path: Path, tiny_base: Base) -> None:
    """Norms are each module's ‖(alpha/r)·B·A‖, and the root of the sum of their squares."""
    made = tensors()
    facts = _admit(write_adapter(tmp_path, made), tiny_base).facts
    assert facts is not None
    exact = {}
    for module in (Q, DOWN):
        a = made[f"{PREFIX}{module}.lora_A.weight"].astype(np.float64)
        b = made[f"{PREFIX}{module}.lora_B.weight"].astype(np.float64)
        exact[module] = 4 / 2 * np.linalg.norm(b @ a)
    assert exact == pytest.approx(facts.norms)
    assert np.hypot(exact[Q], exact[DOWN]) == pytest.approx(facts.norm)


def test_the_report_is_json_without_this_machines_paths(tmp_path: Path, tiny_base: Base) -> None:
    """The JSON holds findings and facts, and no path."""
    folder = write_adapter(tmp_path, tensors(rank=3))
    text = json.dumps(_admit(folder, tiny_base).to_json(), allow_nan=False)
    assert str(tmp_path) not in text
    assert "A021 rank-mismatch" in text
    good = _admit(write_adapter(tmp_path), tiny_base).to_json()
    assert {"accepted": True, "base": BASE, "findings": []}.items() <= good.items()
    assert 2 == good["facts"]["modules"][Q]["rank"]


# Shapes and modules


@pytest.mark.parametrize(
    ("tensor", "shape", "expected"),
    [
        (f"{PREFIX}{Q}.lora_A.weight", (2, 15), "(2, 16)"),
        (f"{PREFIX}{Q}.lora_B.weight", (17, 2), "(16, 2)"),
        (f"{PREFIX}{DOWN}.lora_A.weight", (2, 16), "(2, 24)"),
    ],
)
def test_a_shape_that_the_base_does_not_have_is_refused(
    tmp_path: Path, tiny_base: Base, tensor: str, shape: tuple[int, int], expected: str
) -> None:
    """File, tensor, the base's shape and the tensor's shape are named."""
    made = tensors() | {tensor: np.ones(shape, dtype=np.float32)}
    finding = _only(_admit(write_adapter(tmp_path, made), tiny_base))
    assert "refuse" == finding.severity
    assert "A041 module-shape" == finding.problem.code
    assert (WEIGHTS, tensor) == (finding.problem.file, finding.problem.tensor)
    assert f"{expected}, as {BASE} needs" == finding.problem.expected
    assert str(shape) == finding.problem.found


def test_a_module_that_the_base_does_not_have_is_refused(tmp_path: Path, tiny_base: Base) -> None:
    """The finding names the module and one with a similar name."""
    made = tensors()
    for side in "AB":
        old = f"{PREFIX}{Q}.lora_{side}.weight"
        made[old.replace("layers.0", "layers.9")] = made.pop(old)
    finding = _only(_admit(write_adapter(tmp_path, made), tiny_base))
    assert "A040 module-unknown" == finding.problem.code
    assert "model.layers.9.self_attn.q_proj" == finding.problem.tensor
    assert "self_attn.q_proj" in finding.problem.expected


def test_a_module_like_nothing_in_the_base_is_refused(tmp_path: Path, tiny_base: Base) -> None:
    """Without a near name the base alone is named."""
    made = {f"{PREFIX}zzz.lora_{s}.weight": np.ones((2, 2), dtype=np.float32) for s in "AB"}
    finding = _only(_admit(write_adapter(tmp_path, made), tiny_base))
    assert f"a module of {BASE}" == finding.problem.expected


def _embedding(rows: int = 40) -> dict[str, np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
    return {
        f"{PREFIX}model.embed_tokens.lora_embedding_A": np.ones((2, rows), dtype=np.float32),
        f"{PREFIX}model.embed_tokens.lora_embedding_B": np.ones((16, 2), dtype=np.float32),
    }


def test_embedding_and_head_fit_their_own_way(tmp_path: Path, tiny_base: Base) -> None:
    """An embedding's A has the vocabulary's size, the head's the width."""
    made = dict(_embedding()) | tensors("lm_head")
    report = _admit(write_adapter(tmp_path, made), tiny_base)
    assert report.accepted
    assert report.facts is not None
    assert "embedding" == report.facts.modules["model.embed_tokens"].kind
    assert (40, 16) == (report.facts.modules["lm_head"].d_out, report.facts.modules["lm_head"].d_in)


def test_an_embedding_of_another_vocabulary_is_refused(tmp_path: Path, tiny_base: Base) -> None:
    """Added tokens change the vocabulary, and the base's is fixed."""
    finding = _only(_admit(write_adapter(tmp_path, _embedding(41)), tiny_base))
    assert f"(2, 40), as {BASE} needs" == finding.problem.expected


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [("model.embed_tokens", "lora_", "lora_"), (Q, "lora_", "lora_embedding_")],
)
def test_the_wrong_kind_of_pair_is_refused(
    tmp_path: Path, tiny_base: Base, module: str, old: str, new: str
) -> None:
    """A linear pair on an embedding, or the reverse, would be applied transposed."""
    made = {name.replace(old, new): tensor for name, tensor in tensors(module).items()}
    if new != old:
        made = {name.removesuffix(".weight"): tensor for name, tensor in made.items()}
    finding = _only(_admit(write_adapter(tmp_path, made), tiny_base))
    assert "A042 module-kind" == finding.problem.code


# Ranks and numbers


@pytest.mark.parametrize(("policy", "rank"), [({"max_rank": 2}, 3), ({}, 2049)])
def test_a_rank_over_the_limit_is_refused_unread(
    tmp_path: Path, tiny_base: Base, policy: dict[str, float], rank: int
) -> None:
    """Above the policy's or the memory's limit, the norm is not computed."""
    folder = write_adapter(tmp_path, tensors(Q, rank=rank), r=rank)
    report = _admit(folder, tiny_base, **policy)
    assert "A043 rank-limit" == _only(report).problem.code
    assert report.facts is not None
    assert report.facts.norm is None
    json.dumps(report.to_json(), allow_nan=False)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(
    tmp_path: Path, tiny_base: Base, value: float
) -> None:
    """The tensor is named, and no norm is reported."""
    made = tensors()
    made[f"{PREFIX}{DOWN}.lora_B.weight"][3, 1] = value
    report = _admit(write_adapter(tmp_path, made), tiny_base)
    assert "A050 not-finite" == _only(report).problem.code
    assert f"{PREFIX}{DOWN}.lora_B.weight" == _only(report).problem.tensor
    assert report.facts is not None
    assert report.facts.norm is None


@pytest.mark.parametrize(
    ("factor", "code", "severity"),
    [
        (1e4, "A051 norm-limit", "refuse"),
        (0.0, "A052 zero-update", "warn"),
        (1e-9, "A053 vanishing-norm", "note"),
    ],
)
def test_the_norm_is_held_against_its_gate(
    tmp_path: Path, tiny_base: Base, factor: float, code: str, severity: str
) -> None:
    """A norm over the limit is refused; a zero or vanishing norm is noted."""
    made = {n: t * np.float32(factor) if "lora_B" in n else t for n, t in tensors().items()}
    report = _admit(write_adapter(tmp_path, made), tiny_base)
    assert (code, severity) == (_only(report).problem.code, _only(report).severity)
    assert (severity != "refuse") == report.accepted


def test_the_gate_is_a_setting(tmp_path: Path, tiny_base: Base) -> None:
    """The operator's limit decides, and the refusal quotes it."""
    folder = write_adapter(tmp_path)
    assert not _admit(folder, tiny_base, norm_limit=5.0).accepted
    refusal = _only(_admit(folder, tiny_base, norm_limit=5.0)).problem
    assert "an overall scaled norm of at most 5" == refusal.expected
    assert _admit(folder, tiny_base, norm_limit=500.0).accepted


def test_what_is_at_a_limit_is_accepted(tmp_path: Path, tiny_base: Base) -> None:
    """A rank, a size and a norm that equal the operator's limits are within them."""
    folder = write_adapter(tmp_path)
    facts = _admit(folder, tiny_base).facts
    assert facts is not None
    assert facts.norm is not None
    exact = AdmissionPolicy(
        norm_limit=facts.norm, norm_minimum=facts.norm, max_rank=2, max_bytes=facts.bytes
    )
    assert () == admit(folder, tiny_base, exact).findings
    less = replace(exact, norm_minimum=facts.norm * 1.001, max_rank=None, max_bytes=facts.bytes - 1)
    assert ["A072 too-large"] == [f.problem.code for f in admit(folder, tiny_base, less).findings]
    small = replace(exact, norm_limit=1e9, norm_minimum=facts.norm * 1.001)
    assert "A054 norm-minimum" == _only(admit(folder, tiny_base, small)).problem.code


# The base


@pytest.mark.parametrize("said", [BASE, "tiny-instruct", "x/Tiny-Instruct-bnb-4bit"])
def test_the_base_is_found_by_any_of_its_names(tmp_path: Path, tiny_base: Base, said: str) -> None:
    """A base is recognised by every spelling; quantised training is noted."""
    report = _admit_by_config(write_adapter(tmp_path, base_model_name_or_path=said), [tiny_base])
    assert BASE == report.base
    quantised = "4bit" in said
    assert (["A033 base-quantised"] if quantised else []) == [
        f.problem.code for f in report.findings
    ]
    assert report.accepted


def _admit_by_config(folder: Path, known: list[Base]) -> AdmissionReport:
    return admit(folder, None, AdmissionPolicy(), known=known)


@pytest.mark.parametrize(
    ("said", "code", "found"),
    [
        (None, "A032 base-not-named", "none"),
        ("", "A032 base-not-named", "none"),
        ("/home/me/llama", "A032 base-not-named", "the path /home/me/llama"),
        ("C:\\llama", "A032 base-not-named", "the path C:\\llama"),
        ("acme/Other", "A030 base-unknown", "acme/Other"),
        ("evil\x1b[31m\x00", "A030 base-unknown", "evil?[31m?"),
    ],
)
def test_a_base_that_cannot_be_told_is_refused_with_how_to_say_it(
    tmp_path: Path, tiny_base: Base, said: str | None, code: str, found: str
) -> None:
    """For null, a path and an unknown name the finding says what to do, in printable text."""
    folder = write_adapter(tmp_path, base_model_name_or_path=said)
    report = _admit_by_config(folder, [tiny_base])
    problem = _only(report).problem
    assert (code, found, CONFIG) == (problem.code, problem.found, problem.file)
    assert ("--base" if "A032" in code else "weft bases add") in problem.expected
    assert report.base is None


def test_an_unknown_base_names_the_known_ones(tmp_path: Path, tiny_base: Base) -> None:
    """The finding lists the registered bases, or says that none is registered."""
    folder = write_adapter(tmp_path, base_model_name_or_path="acme/Other")
    assert BASE in _only(_admit_by_config(folder, [tiny_base])).problem.expected
    assert "none is registered" in _only(_admit_by_config(folder, [])).problem.expected


@pytest.mark.parametrize("said", [None, "./checkpoints/llama"])
def test_a_base_that_was_given_stands_in_for_none(
    tmp_path: Path, tiny_base: Base, said: str | None
) -> None:
    """Null or a path beside `--base` is noted, not refused."""
    report = _admit(write_adapter(tmp_path, base_model_name_or_path=said), tiny_base)
    assert report.accepted
    assert ("A034 base-assumed", "note") == (
        _only(report).problem.code, _only(report).severity,
    )  # fmt: skip


def test_a_path_may_be_an_alias(tmp_path: Path) -> None:
    """A path that is an alias of the base identifies it."""
    path = "/models/tiny"
    base = Base(BASE, None, SHAPES, base_keys(BASE, [path]))
    folder = write_adapter(tmp_path, base_model_name_or_path=path)
    assert () == _admit_by_config(folder, [base]).findings
    assert () == _admit(folder, base).findings


def test_another_base_than_the_one_asked_for_is_refused(tmp_path: Path, tiny_base: Base) -> None:
    """Equal shapes prove nothing, so the refusal has both names."""
    folder = write_adapter(tmp_path, base_model_name_or_path="acme/Tiny")
    problem = _only(_admit(folder, tiny_base)).problem
    assert ("A031 base-mismatch", "acme/Tiny") == (problem.code, problem.found)
    assert BASE in problem.expected


# The folder


def test_what_else_lies_there_is_noted_and_not_opened(tmp_path: Path, tiny_base: Base) -> None:
    """Pickles of a training run are named and not opened, even unreadable ones."""
    folder = write_adapter(tmp_path)
    (folder / "README.md").write_text("# card")
    (folder / "training_args.bin").write_bytes(b"\x80\x04.")
    (folder / "training_args.bin").chmod(0)
    (folder / "trainer.json").touch()
    for number in range(12):
        (folder / f"z{number:02}.pt").touch()
    pickles, others = _admit(folder, tiny_base).findings
    assert ("A062 pickles-beside", "note") == (pickles.problem.code, pickles.severity)
    assert pickles.problem.file.startswith("'training_args.bin', 'z00.pt'")
    assert "and 3 more" in pickles.problem.found
    assert ("A060 other-files", "'trainer.json'") == (others.problem.code, others.problem.file)
    assert " more" not in others.problem.found


def test_a_link_in_the_folder_is_refused(tmp_path: Path, tiny_base: Base) -> None:
    """A link could lead out of the folder, whatever its name."""
    folder = write_adapter(tmp_path / "a")
    (folder / "README.md").symlink_to("/etc/hostname")
    problems = _admit(folder, tiny_base).problems
    assert ["A061 symlink"] == [problem.code for problem in problems]


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_linked_weights_and_config_are_refused(tmp_path: Path, tiny_base: Base, name: str) -> None:
    """Links are refused even if they lead to a good adapter."""
    good = write_adapter(tmp_path / "good")
    folder = write_adapter(tmp_path / "a")
    (folder / name).unlink()
    (folder / name).symlink_to(good / name)
    assert "A061 symlink" in {p.code for p in _admit(folder, tiny_base).problems}


def test_a_folder_that_is_not_there_is_a_report(tmp_path: Path, tiny_base: Base) -> None:
    """A missing folder gives the findings for missing config and weights."""
    report = _admit(tmp_path / "nothing", tiny_base)
    codes = [problem.code for problem in report.problems]
    assert ["A001 config-missing", "A002 weights-missing"] == codes


def test_several_faults_are_found_at_once(tmp_path: Path, tiny_base: Base) -> None:
    """One report has base, shape, norm and link."""
    made = tensors(Q) | {f"{PREFIX}{Q}.lora_B.weight": np.full((17, 2), 1e9, dtype=np.float32)}
    folder = write_adapter(tmp_path, made, base_model_name_or_path="acme/Other")
    (folder / "x").symlink_to("/etc")
    assert {
        "A031 base-mismatch", "A041 module-shape", "A051 norm-limit", "A061 symlink",
    } == {problem.code for problem in _admit(folder, tiny_base).problems}  # fmt: skip
