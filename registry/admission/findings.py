"""The findings of admission and probe: code, severity and meaning of each.

Codes are stable, because they are stored with versions and printed. `merge.peft_format` raises A001
to A021, A026 and A027, the probe A09x, `registry.admission` the others. A test raises each code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from merge.peft_format import Problem
from registry.types import Finding, Severity

MAX_FINDINGS = 200


@dataclass(frozen=True, slots=True)
class Code:
    """A kind of finding; only the severity "refuse" prevents admission."""

    severity: Severity
    sentence: str


CODES: Mapping[str, Code] = {
    "A001 config-missing": Code("refuse", "adapter_config.json is missing or not a regular file"),
    "A002 weights-missing": Code("refuse", "adapter_model.safetensors is missing"),
    "A003 pickle-weights": Code(
        "refuse",
        "the weights are a pickle, which is never opened; `weft convert` writes safetensors",
    ),
    "A004 lfs-pointer": Code("refuse", "a file is a Git LFS pointer; `git lfs pull` fetches it"),
    "A005 header-invalid": Code("refuse", "the weights are not a safetensors file"),
    "A006 tensor-entry-invalid": Code(
        "refuse", "a tensor has an invalid dtype, shape or offset in the header"
    ),
    "A007 file-size": Code(
        "refuse", "the file's length differs from its header: it was cut or rewritten"
    ),
    "A008 no-tensors": Code("refuse", "the safetensors file holds no LoRA tensors"),
    "A009 not-a-lora-tensor": Code("refuse", "a tensor is not a LoRA factor, such as a bias"),
    "A010 config-invalid": Code(
        "refuse", "the config is not a JSON object, or a key has a wrong type"
    ),
    "A011 not-lora": Code("refuse", "peft_type is not LORA; PEFT can convert some types"),
    "A012 config-rank": Code("refuse", "r is not a positive integer"),
    "A013 config-alpha": Code("refuse", "lora_alpha is missing or not a positive number"),
    "A014 unsupported-feature": Code(
        "refuse", "the config uses a feature that cannot be served; its key is named"
    ),
    "A015 config-pattern": Code("refuse", "a rank or alpha pattern is invalid or too costly"),
    "A016 tensor-dtype": Code("refuse", "a factor is not float32, float16 or bfloat16"),
    "A017 tensor-shape": Code("refuse", "a factor does not have two dimensions, or one is 0"),
    "A018 duplicate-tensor": Code("refuse", "a factor of a module occurs twice"),
    "A019 pair-incomplete": Code("refuse", "one factor of a pair is missing"),
    "A020 pair-mismatch": Code("refuse", "the two factors of a module have different ranks"),
    "A021 rank-mismatch": Code("refuse", "the rank of the tensors differs from the config's"),
    "A022 doubled-prefix": Code(
        "note", "names begin with base_model.model. twice, a silent no-op in PEFT; read as once"
    ),
    "A023 mlx-format": Code("refuse", "an MLX adapter: transposed factors and another scale rule"),
    "A024 adapterhub-format": Code("refuse", "an AdapterHub adapter under PEFT's file name"),
    "A025 target-modules": Code("note", "target_modules differs from the tensors, which decide"),
    "A026 whole-layer": Code(
        "refuse", "a whole embedding or head is in the file, as of a resized vocabulary"
    ),
    "A027 task-head": Code("refuse", "a classification head is in the file"),
    "A028 base-copy": Code(
        "note", "PEFT saved a copy of the base's embedding or head; it is dropped"
    ),
    "A029 task-type": Code("warn", "task_type is not CAUSAL_LM, the only task that is served"),
    "A030 base-unknown": Code("refuse", "the config names a base that is not registered"),
    "A031 base-mismatch": Code("refuse", "the config names another base than the one given"),
    "A032 base-not-named": Code(
        "refuse", "neither config nor card names a base, and none was given"
    ),
    "A033 base-quantised": Code("note", "trained on a quantised copy of the base"),
    "A034 base-assumed": Code("note", "the config names no base; the one given is taken"),
    "A035 base-from-card": Code("note", "the config names no base; the card's is taken"),
    "A036 base-disputed": Code("warn", "the card names another base than the one taken"),
    "A037 base-name-length": Code("refuse", "the config's name of the base is too long"),
    "A040 module-unknown": Code("refuse", "the base has no module of this name"),
    "A041 module-shape": Code("refuse", "a factor does not fit the base's module"),
    "A042 module-kind": Code(
        "refuse", "an embedding's pair is on a linear layer, or a linear pair on an embedding"
    ),
    "A043 rank-limit": Code("refuse", "the rank is over the limit"),
    "A050 not-finite": Code("refuse", "a factor holds NaN or infinity"),
    "A051 norm-limit": Code("refuse", "the norm of the whole scaled update is over the limit"),
    "A052 zero-update": Code("warn", "the update is zero everywhere: a valid no-op"),
    "A053 vanishing-norm": Code("note", "the update is close to zero"),
    "A054 norm-minimum": Code("refuse", "the norm of the whole scaled update is under the minimum"),
    "A055 factor-limit": Code("refuse", "the norm of a factor is over the limit"),
    "A060 other-files": Code("note", "the folder holds other files, which were not opened"),
    "A061 symlink": Code("refuse", "a symbolic link, which could lead anywhere"),
    "A062 pickles-beside": Code("note", "pickles beside the adapter, which were not opened"),
    "A063 chat-template": Code(
        "warn", "the folder carries another chat template than the base's, which is used"
    ),
    "A064 added-tokens": Code("warn", "the folder carries tokens that the base does not have"),
    "A070 licence-refused": Code("refuse", "the card's licence is not an allowed one"),
    "A071 field-missing": Code("refuse", "a field that this registry requires is missing"),
    "A072 too-large": Code("refuse", "the weights file is larger than this registry admits"),
    "A090 logits-not-finite": Code(
        "refuse", "probed on its base, the adapter gives NaN or infinity"
    ),
    "A091 no-effect": Code("warn", "probed on its base, the adapter changes nothing"),
    "A099 more-findings": Code("note", "there are more findings than a report holds"),
}


def finding(code: str, file: str, expected: str, found: str, tensor: str | None = None) -> Finding:
    """Return a finding with the severity of its code."""
    return graded(Problem(code, file, expected, found, tensor))


def graded(problem: Problem) -> Finding:
    """Return a problem as a finding with the severity of its code."""
    return Finding(CODES[problem.code].severity, problem)


def bounded(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return at most `MAX_FINDINGS` findings, and one more that counts the omitted ones.

    A folder can hold thousands of links. Findings that refuse come first, so that the cut never
    turns a refusal into an admission.
    """
    if len(findings) <= MAX_FINDINGS:
        return tuple(findings)
    ordered = sorted(findings, key=lambda item: item.severity != "refuse")
    more = f"{len(findings) - MAX_FINDINGS} more"
    last = finding("A099 more-findings", "-", f"at most {MAX_FINDINGS} findings", more)
    return (*ordered[:MAX_FINDINGS], last)
