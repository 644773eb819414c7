"""Every finding has one code, one severity, one sentence, and a folder that raises it."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from registry.admission.admit import AdmissionPolicy, admit
from registry.admission.findings import CODES, MAX_FINDINGS, bounded, finding
from registry.admission.tokenizer import hash_of
from registry.types import AdmissionReport, Base, Finding
from server.probe import run
from server.probe.measure import Measured
from tests.registry.conftest import DOWN, PREFIX, SHAPES, Q, Tensors, tensors, write_adapter

ROOT = Path(__file__).parents[3]
CONFIG, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"
A, B = f"{PREFIX}{Q}.lora_A.weight", f"{PREFIX}{Q}.lora_B.weight"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
Damage = Callable[[Path], None]


def config(**changes: object) -> Damage:
    """Change keys of the config; `...` removes one."""

    def change(folder: Path) -> None:
        document = json.loads((folder / CONFIG).read_text()) | changes
        kept = {key: value for key, value in document.items() if value is not ...}
        (folder / CONFIG).write_text(json.dumps(kept))

    return change


def weights(change: Callable[[Tensors], Tensors]) -> Damage:
    """Write other tensors."""
    return lambda folder: save_file(change(tensors()), folder / WEIGHTS)


def write(name: str, data: bytes) -> Damage:
    """Write a file."""

    def change(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return change


def link(name: str) -> Damage:
    """Create a symbolic link."""
    return lambda folder: (folder / name).symlink_to("/")


def card(front: str) -> Damage:
    """Write a card with this front matter."""
    return write(CARD, f"---\n{front}\n---\n".encode())


def several(*damages: Damage) -> Damage:
    """Apply several changes in order."""

    def do(folder: Path) -> None:
        for damage in damages:
            damage(folder)

    return do


def header(text: str, data: bytes = b"") -> Damage:
    """Write a weights file with exactly this header."""
    return write(WEIGHTS, len(text).to_bytes(8, "little") + text.encode() + data)


def pickled(folder: Path) -> None:
    """Put a pickle in place of the weights."""
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


def unharmed(_folder: Path) -> None:
    """Change nothing; the policy differs."""


def linked(folder: Path) -> None:
    """Replace the card by a link."""
    (folder / CARD).symlink_to("/etc/hostname")


def doubled(made: Tensors) -> Tensors:
    """Repeat the prefix of every tensor."""
    return {PREFIX + name: tensor for name, tensor in made.items()}


def scaled(factor: float) -> Callable[[Tensors], Tensors]:
    """Multiply every update."""
    return lambda made: {n: t * np.float32(factor) if "_B" in n else t for n, t in made.items()}


def embedding(made: Tensors) -> Tensors:
    """Name linear pairs like an embedding's."""
    return {
        n.replace("lora_", "lora_embedding_").removesuffix(".weight"): t for n, t in made.items()
    }


def base_copies(vocabulary: int) -> Tensors:
    """Return the copies of embedding and head that PEFT saves, for a base of width 16."""
    names = (f"{PREFIX}model.embed_tokens", f"{PREFIX}lm_head")
    return {f"{name}.base_layer.weight": np.ones((vocabulary, 16)) for name in names}


def unmatched(made: Tensors) -> Tensors:
    """Move a module to a layer that the base does not have."""
    return {name.replace("layers.0", "layers.9"): tensor for name, tensor in made.items()}


# What arrives, by the code that it must raise: the hazards that were met in the wild, and the
# limits that an operator sets (POLICIES below).
HAZARDS: dict[str, Damage] = {
    "A001 config-missing": lambda folder: (folder / CONFIG).unlink(),
    "A002 weights-missing": lambda folder: (folder / WEIGHTS).unlink(),
    "A003 pickle-weights": pickled,
    "A004 lfs-pointer": several(write(WEIGHTS, LFS), write(CONFIG, LFS)),
    "A005 header-invalid": write(WEIGHTS, b"\0" * 100_000),
    "A006 tensor-entry-invalid": header(f'{{"{A}":{{"dtype":"F32","shape":[2]}}}}'),
    "A007 file-size": lambda f: write(WEIGHTS, (f / WEIGHTS).read_bytes()[:-3])(f),
    "A008 no-tensors": header('{"__metadata__":{"format":"pt"}}'),
    "A009 not-a-lora-tensor": weights(lambda t: t | {"buffer": np.ones((2, 2))}),
    "A010 config-invalid": write(CONFIG, b'"{\\"r\\": 8}"'),  # a config escaped into a string
    "A011 not-lora": config(peft_type="PROMPT_TUNING"),
    "A012 config-rank": config(r=0),
    "A013 config-alpha": config(lora_alpha=...),
    "A014 unsupported-feature": config(use_dora=True),
    "A015 config-pattern": config(rank_pattern={"(a+)+": 2}),
    "A016 tensor-dtype": weights(lambda t: t | {n: t[n].astype(np.int32) for n in (A, B)}),
    "A017 tensor-shape": weights(lambda t: t | {n: t[n][None] for n in (A, B)}),
    "A018 duplicate-tensor": weights(lambda t: t | doubled(t)),
    "A019 pair-incomplete": weights(lambda t: {n: x for n, x in t.items() if n != B}),
    "A020 pair-mismatch": weights(lambda t: t | {B: np.ones((16, 3), dtype=np.float32)}),
    "A021 rank-mismatch": config(r=4),
    "A022 doubled-prefix": weights(doubled),
    "A023 mlx-format": config(
        peft_type=..., r=..., lora_parameters={"rank": 8, "scale": 20.0}, fine_tune_type="lora"
    ),
    "A024 adapterhub-format": config(
        peft_type=..., config={"architecture": "lora", "r": 8}, model_class="LlamaAdapterModel"
    ),
    "A025 target-modules": config(target_modules=["q_proj", "k_proj"]),
    "A026 whole-layer": weights(lambda t: t | {f"{PREFIX}lm_head.weight": np.ones((41, 16))}),
    "A027 task-head": weights(lambda t: t | {"score.weight": np.ones((2, 2))}),
    "A028 base-copy": weights(lambda t: t | base_copies(40)),
    "A029 task-type": config(task_type="SEQ_CLS"),
    "A030 base-unknown": config(base_model_name_or_path="acme/Other"),
    "A031 base-mismatch": config(base_model_name_or_path="acme/Other"),
    "A032 base-not-named": config(base_model_name_or_path=None),
    "A033 base-quantised": config(base_model_name_or_path="x/Tiny-Instruct-bnb-4bit"),
    "A034 base-assumed": config(base_model_name_or_path="C:\\models\\tiny"),
    "A035 base-from-card": several(
        config(base_model_name_or_path=None), card("base_model:\n- acme/Tiny-Instruct")
    ),
    "A036 base-disputed": card("base_model: acme/Tiny"),
    "A037 base-name-length": config(base_model_name_or_path="x" * 301),
    "A040 module-unknown": weights(unmatched),
    "A041 module-shape": weights(lambda t: t | {A: np.ones((2, 15), dtype=np.float32)}),
    "A042 module-kind": weights(embedding),
    "A043 rank-limit": unharmed,
    "A050 not-finite": weights(lambda t: t | {A: t[A] * np.float32(np.nan)}),
    "A051 norm-limit": weights(scaled(1e6)),
    "A052 zero-update": weights(scaled(0.0)),
    "A053 vanishing-norm": weights(scaled(1e-9)),
    "A054 norm-minimum": weights(scaled(1e-3)),
    "A055 factor-limit": weights(
        lambda t: {n: x * np.float32(1e-6 if "_B" in n else 1e6) for n, x in t.items()}
    ),
    "A060 other-files": write("trainer_state.json", b"{}"),
    "A061 symlink": linked,
    "A062 pickles-beside": several(write("training_args.bin", b"\x80"), write("rng.pth", b"\x80")),
    "A063 chat-template": write("chat_template.jinja", b"{{ messages }}"),
    "A064 added-tokens": write("added_tokens.json", b'{"<|mine|>": 40}'),
    "A070 licence-refused": card("license: cc-by-nc-4.0"),
    "A071 field-missing": unharmed,
    "A072 too-large": unharmed,
    "A099 more-findings": several(*(link(f"l{number}") for number in range(MAX_FINDINGS + 1))),
}  # fmt: skip
POLICIES = {
    "A043 rank-limit": AdmissionPolicy(max_rank=1),
    "A054 norm-minimum": AdmissionPolicy(norm_minimum=1.0),
    "A070 licence-refused": AdmissionPolicy(licences=frozenset({"apache-2.0", "mit"})),
    "A071 field-missing": AdmissionPolicy(required=frozenset({"card"})),
    "A072 too-large": AdmissionPolicy(max_bytes=100),
}
# Found by holding a folder against the base that was asked for, rather than by its config.
ASKED_FOR = {"A031 base-mismatch", "A034 base-assumed"}
# A hazard that is another one as well.
ALONGSIDE = {
    "A018 duplicate-tensor": {"A022 doubled-prefix"},
    "A099 more-findings": {"A061 symlink"},
}
PROBED = {
    "A090 logits-not-finite": Measured(effect=None, signature=None),
    "A091 no-effect": Measured(effect=0.0, signature=np.zeros(2, dtype=np.float32)),
}


def examine(code: str, folder: Path, base: Base) -> AdmissionReport:
    """Damage a good adapter and return its report."""
    HAZARDS[code](write_adapter(folder))
    policy = POLICIES.get(code, AdmissionPolicy())
    base = replace(base, chat_template=hash_of("the base's own"))
    return admit(folder, base if code in ASKED_FOR else None, policy, known=[base])


@pytest.mark.parametrize("code", HAZARDS)
def test_each_hazard_has_its_own_code(tmp_path: Path, tiny_base: Base, code: str) -> None:
    """Each hazard has exactly its code, with the severity of the table and the right file."""
    report = examine(code, tmp_path / "a", tiny_base)
    found = [item for item in report.findings if item.problem.code == code]
    assert found, [str(item.problem) for item in report.findings]
    assert {CODES[code].severity} == {item.severity for item in found}
    assert all(item.problem.expected and item.problem.found for item in found)
    assert (CODES[code].severity != "refuse" and code != "A099 more-findings") == report.accepted
    codes = {item.problem.code for item in report.findings}
    assert {code} | ALONGSIDE.get(code, set()) == codes


@pytest.mark.parametrize("code", PROBED)
def test_each_result_of_the_probe_has_its_own_code(code: str) -> None:
    """Results of the probe have codes like folders."""
    (found,) = run._report(PROBED[code]).findings
    assert (code, CODES[code].severity) == (found.problem.code, found.severity)


def test_every_code_is_raised_by_a_test() -> None:
    """Every code of the table is raised by a test."""
    assert set(CODES) == set(HAZARDS) | set(PROBED)


def test_every_code_in_the_source_is_in_the_table() -> None:
    """Every code in the source is in the table, and has one number."""
    raised = {
        code
        for package in ("merge/peft_format", "registry", "server")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "findings.py"
        for code in re.findall(r'"(A\d{3} [a-z0-9-]+)"', path.read_text())
    }
    assert raised == set(CODES) - {"A099 more-findings"}
    assert len(CODES) == len({code.split()[0] for code in CODES})


@pytest.mark.parametrize("code", CODES)
def test_a_code_explains_itself(code: str) -> None:
    """A number, a word, and a sentence without a full stop that fits a table."""
    assert re.fullmatch(r"A\d{3} [a-z]+(-[a-z0-9]+)*", code)
    assert 10 < len(CODES[code].sentence) <= 90
    assert not CODES[code].sentence.endswith(".")


def test_a_report_is_bounded_and_keeps_what_refuses() -> None:
    """A refusal among many notes remains a refusal."""
    note = finding("A060 other-files", "x", "less", "more")
    refusal: Finding = finding("A061 symlink", "x", "a file", "a link")
    cut = bounded([note] * (MAX_FINDINGS + 50) + [refusal])
    assert len(cut) == MAX_FINDINGS + 1
    assert refusal == cut[0]
    assert "51 more" in cut[-1].problem.found
    assert (note, refusal) == bounded([note, refusal])


# What admission makes of hazards that are none


@pytest.mark.parametrize(
    "targets",
    [None, "all-linear", r".*\.(q|down)_proj", ["q_proj", "down_proj"], [Q, DOWN],
     ["self_attn.q_proj", "mlp.down_proj"], {"odd": 1}, "(a+)+$"],
)  # fmt: skip
def test_the_tensors_say_which_modules_there_are(
    tmp_path: Path, tiny_base: Base, targets: object
) -> None:
    """target_modules may be a list, a pattern, a word, dotted names or null."""
    folder = write_adapter(tmp_path, target_modules=targets)
    report = admit(folder, tiny_base, AdmissionPolicy())
    assert report.accepted
    assert () == report.findings


def test_line_ends_and_a_mark_of_windows_are_no_hazard(tmp_path: Path, tiny_base: Base) -> None:
    """CRLF and a byte order mark do not change a config."""
    folder = write_adapter(tmp_path)
    text = json.dumps(json.loads((folder / CONFIG).read_text()), indent=2)
    (folder / CONFIG).write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert () == admit(folder, tiny_base, AdmissionPolicy()).findings


def test_a_doubled_prefix_means_what_the_single_one_does(tmp_path: Path, tiny_base: Base) -> None:
    """It is admitted with the same facts and one note for all modules."""
    report = examine("A022 doubled-prefix", tmp_path / "a", tiny_base)
    plain = admit(write_adapter(tmp_path / "b"), tiny_base, AdmissionPolicy())
    assert report.facts is not None
    assert plain.facts is not None
    assert plain.facts.norms == report.facts.norms


def test_the_pool_s_gate_is_a_policy(tmp_path: Path, tiny_base: Base) -> None:
    """1 < norm ≤ 1000, the gate of the 960-adapter pool, is a policy."""
    gate = AdmissionPolicy(norm_minimum=1.0)
    assert admit(write_adapter(tmp_path / "a"), tiny_base, gate).accepted
    assert not examine("A054 norm-minimum", tmp_path / "b", tiny_base).accepted


@pytest.mark.parametrize(
    ("front", "accepted"), [("license: MIT", True), ("license: gpl-3.0", False), ("x: y", False)]
)
def test_licences_are_compared_without_case(
    tmp_path: Path, tiny_base: Base, front: str, accepted: bool
) -> None:
    """Case does not matter, and no licence is not an allowed one."""
    folder = write_adapter(tmp_path)
    card(front)(folder)
    policy = AdmissionPolicy(licences=frozenset({"mit"}))
    assert accepted == admit(folder, tiny_base, policy).accepted


def test_what_is_required_is_asked_for_by_name(tmp_path: Path, tiny_base: Base) -> None:
    """Each missing field is one finding."""
    folder = write_adapter(tmp_path, base_model_name_or_path=None)
    policy = AdmissionPolicy(required=frozenset({"base", "card", "licence"}))
    report = admit(folder, tiny_base, policy)
    assert ["a base", "a card", "a licence"] == [
        problem.expected.partition(",")[0] for problem in report.problems
    ]


def test_a_card_decides_only_where_the_config_does_not(tmp_path: Path, tiny_base: Base) -> None:
    """The config's base is taken, and the disagreement is a warning."""
    report = examine("A036 base-disputed", tmp_path / "a", tiny_base)
    assert tiny_base.name == report.base
    other = Base("acme/Tiny", None, SHAPES, frozenset({"tiny"}))
    both = admit(tmp_path / "a", None, AdmissionPolicy(), known=[other, tiny_base])
    assert tiny_base.name == both.base
