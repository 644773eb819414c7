"""Tensor names of PEFT adapters: which module and which factor a name speaks of."""

import re
from typing import Literal, NamedTuple

Kind = Literal["linear", "embedding"]
Side = Literal["a", "b"]

PREFIX = "base_model.model."
# "…lora_A.weight", "…lora_A.default.weight" (older checkpoints), "…lora_embedding_A[.default]"
_SUFFIX = re.compile(r"\.lora_(embedding_)?([AB])(?:\.default)?(\.weight)?\Z")
# Module names become JSON keys, PEFT patterns and file content; nothing else may hide in them.
# Patterns of the config are matched against them, at a cost that grows with their length.
_MODULE = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*\Z")
_MAX_MODULE_LENGTH = 200


class ParsedName(NamedTuple):
    """The meaning of a LoRA tensor's name."""

    module: str  # for example "model.layers.0.self_attn.q_proj"
    kind: Kind
    side: Side


def parse_tensor_name(name: str) -> ParsedName | None:
    """Return what `name` speaks of, or None when it is not a LoRA factor.

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


def tensor_names(module: str, kind: Kind) -> tuple[str, str]:
    """Return the names that PEFT and vLLM expect for the A and B factor of `module`."""
    if kind == "embedding":
        return f"{PREFIX}{module}.lora_embedding_A", f"{PREFIX}{module}.lora_embedding_B"
    return f"{PREFIX}{module}.lora_A.weight", f"{PREFIX}{module}.lora_B.weight"
