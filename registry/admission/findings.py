"""Every finding that admission and probe can make: its code, how much it matters, what it means.

Codes are stable: they are stored with versions, printed, and may be searched for. A001 to A021 are
raised by `merge.peft_format`, A09x by the probe, the others by `registry.admission.admit` and what
it is made of. A test proves that some folder raises each, and that the documentation can list them
all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from merge.peft_format import Problem
from registry.types import Finding, Severity

MAX_FINDINGS = 200


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of finding; only "refuse" keeps an adapter out."""

    severity: Severity
    sentence: str


CODES: Mapping[str, Code] = {
    "A001 config-missing": Code("refuse", "adapter_config.json is missing or no regular file"),
    "A002 weights-missing": Code("refuse", "adapter_model.safetensors is missing"),
    "A003 pickle-weights": Code(
        "refuse",
        "the weights are a pickle, which is never opened; `weft convert` makes safetensors",
    ),
    "A004 lfs-pointer": Code("refuse", "a Git LFS pointer stands where a file should be"),
    "A005 header-invalid": Code("refuse", "the weights are no safetensors file"),
    "A006 tensor-entry-invalid": Code("refuse", "a tensor's dtype, shape or offsets make no sense"),
    "A007 file-size": Code(
        "refuse", "the file is not as long as its header says: cut or rewritten"
    ),
    "A008 no-tensors": Code("refuse", "a safetensors file without tensors"),
    "A009 not-a-lora-tensor": Code(
        "refuse", "a tensor is no LoRA factor: a head, a bias, a buffer"
    ),
    "A010 config-invalid": Code(
        "refuse", "the config is no JSON object, or a key has a wrong type"
    ),
    "A011 not-lora": Code("refuse", "peft_type is something other than LORA"),
    "A012 config-rank": Code("refuse", "r is no positive integer"),
    "A013 config-alpha": Code("refuse", "lora_alpha is missing or no positive number"),
    "A014 unsupported-feature": Code("refuse", "the config uses what cannot be served, by name"),
    "A015 config-pattern": Code("refuse", "a rank or alpha pattern is invalid or too costly"),
    "A016 tensor-dtype": Code("refuse", "a factor is neither float32, float16 nor bfloat16"),
    "A017 tensor-shape": Code("refuse", "a factor has not two dimensions, or an empty one"),
    "A018 duplicate-tensor": Code("refuse", "a factor of a module occurs twice"),
    "A019 pair-incomplete": Code("refuse", "a factor lacks the other one of its pair"),
    "A020 pair-mismatch": Code("refuse", "the two factors of a module have different ranks"),
    "A021 rank-mismatch": Code("refuse", "the tensors' rank is not the one that the config gives"),
    "A022 doubled-prefix": Code(
        "note", "names begin with base_model.model. twice, a silent no-op in PEFT; read as once"
    ),
    "A023 mlx-format": Code("refuse", "an MLX adapter: transposed factors and another scale rule"),
    "A024 adapterhub-format": Code("refuse", "an AdapterHub adapter under PEFT's file name"),
    "A025 target-modules": Code("note", "target_modules disagrees with the tensors, which count"),
    "A030 base-unknown": Code("refuse", "the config names a base that is not registered"),
    "A031 base-mismatch": Code("refuse", "the config names another base than the one asked for"),
    "A032 base-not-named": Code(
        "refuse", "neither config nor card name a base, and none was given"
    ),
    "A033 base-quantised": Code("note", "trained on a quantised copy of the base"),
    "A034 base-assumed": Code("note", "the config names no base; the one that was given is taken"),
    "A035 base-from-card": Code("note", "the config names no base; the one of the card is taken"),
    "A036 base-disputed": Code("warn", "the card names another base than the one that is taken"),
    "A040 module-unknown": Code("refuse", "the base has no module of this name"),
    "A041 module-shape": Code("refuse", "a factor does not fit the base's module"),
    "A042 module-kind": Code("refuse", "an embedding's pair on a linear layer, or the other way"),
    "A043 rank-limit": Code("refuse", "the rank is over the limit"),
    "A050 not-finite": Code("refuse", "a factor holds NaN or infinity"),
    "A051 norm-limit": Code("refuse", "the norm of the whole scaled update is over the limit"),
    "A052 zero-update": Code("warn", "the update is zero everywhere: a legal no-op"),
    "A053 vanishing-norm": Code("note", "the update is next to nothing"),
    "A054 norm-minimum": Code("refuse", "the norm of the whole scaled update is under the minimum"),
    "A060 other-files": Code(
        "note", "files beside config, weights and card, which were not opened"
    ),
    "A061 symlink": Code("refuse", "a symbolic link, which could lead anywhere"),
    "A062 pickles-beside": Code("note", "pickles beside the adapter, which were not opened"),
    "A070 licence-refused": Code("refuse", "the card's licence is not one of those allowed"),
    "A071 field-missing": Code("refuse", "a field that this registry requires is missing"),
    "A072 too-large": Code("refuse", "the files are larger than this registry takes"),
    "A090 logits-not-finite": Code(
        "refuse", "probed on its base, the adapter gives NaN or infinity"
    ),
    "A091 no-effect": Code("warn", "probed on its base, the adapter changes nothing"),
    "A099 more-findings": Code("note", "more was found than a report holds"),
}


def finding(code: str, file: str, expected: str, found: str, tensor: str | None = None) -> Finding:
    """Return a finding with the severity that its code has."""
    return graded(Problem(code, file, expected, found, tensor))


def graded(problem: Problem) -> Finding:
    """Return a problem with the severity that its code has."""
    return Finding(CODES[problem.code].severity, problem)


def bounded(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings, or the first of them with how many there are beyond.

    A header of one megabyte can hold twenty thousand wrong tensors. What refuses comes first, so
    that no cut turns a refusal into an admission.
    """
    if len(findings) <= MAX_FINDINGS:
        return tuple(findings)
    ordered = sorted(findings, key=lambda each: each.severity != "refuse")
    more = f"{len(findings) - MAX_FINDINGS} more"
    last = finding("A099 more-findings", "-", f"at most {MAX_FINDINGS} findings", more)
    return (*ordered[:MAX_FINDINGS], last)
