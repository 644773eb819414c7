"""Tensor names of PEFT adapters: which module and which factor a name stands for."""

import re
from typing import Literal, NamedTuple

Kind = Literal["linear", "embedding"]
Side = Literal["a", "b"]

PREFIX = "base_model.model."
# "…lora_A.weight", "…lora_A.default.weight" (older checkpoints), "…lora_embedding_A[.default]"
_SUFFIX = re.compile(r"\.lora_(embedding_)?([AB])(?:\.default)?(\.weight)?\Z")
# Module names become JSON keys, PEFT patterns and file content; other characters are refused.
# Patterns of the config are matched against them, at a cost that grows with their length.
_MODULE = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*\Z")
_MAX_MODULE_LENGTH = 200


# PEFT saves the frozen layer beside its factors where an adapter targets one of these.
_BASE_COPIES = (".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")
_WHOLE_LAYERS = (".embed_tokens.weight", ".lm_head.weight")
_HEADS = frozenset(
    "classification_head classifier qa_outputs regression_head score summary v_head".split()
)


class ParsedName(NamedTuple):
    """The meaning of a LoRA tensor's name."""

    module: str  # for example "model.layers.0.self_attn.q_proj"
    kind: Kind
    side: Side


def parse_tensor_name(name: str) -> ParsedName | None:
    """Return what `name` stands for, or None when it is not a LoRA factor.

    A doubled `base_model.model.` prefix is stripped: PEFT would load such a file as a silent
    no-op, but what it means is not in doubt.
    """
    match = _SUFFIX.search(name)
    if match is None:
        return None
    embedding, letter, weight = match.groups()
    if bool(embedding) == bool(weight):  # linear factors end in ".weight", embedding ones do not
        return None
    module = name[: match.start()]
    while module.startswith(PREFIX):
        module = module[len(PREFIX) :]
    if len(module) > _MAX_MODULE_LENGTH or _MODULE.match(module) is None:
        return None
    return ParsedName(module, "embedding" if embedding else "linear", "a" if letter == "A" else "b")


def is_base_copy(name: str) -> bool:
    """Say whether a tensor is the copy of the base's embedding or head that PEFT saves."""
    return name.endswith(_BASE_COPIES)


def stranger(name: str) -> tuple[str, str, str]:
    """Return code, expectation and finding for a tensor that is neither factor nor copy."""
    if f".{name}".endswith(_WHOLE_LAYERS):
        expected = "low-rank updates only: train without new tokens and without modules_to_save"
        return "A026 whole-layer", expected, "a whole embedding or head, as of a resized vocabulary"
    if _HEADS.intersection(name.split(".")):
        expected = "LoRA factors only: train for CAUSAL_LM"
        return "A027 task-head", expected, "a classification head"
    return "A009 not-a-lora-tensor", "…lora_A.weight or …lora_B.weight", "another tensor"


def tensor_names(module: str, kind: Kind) -> tuple[str, str]:
    """Return the names that PEFT and vLLM expect for the A and B factor of `module`."""
    if kind == "embedding":
        return f"{PREFIX}{module}.lora_embedding_A", f"{PREFIX}{module}.lora_embedding_B"
    return f"{PREFIX}{module}.lora_A.weight", f"{PREFIX}{module}.lora_B.weight"
