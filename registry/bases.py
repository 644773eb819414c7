"""Which base a text means, and the shapes of a base's modules.

Covered: the many spellings of one base, llama-like architectures by their Hugging Face
`config.json`, and the base that weft serves by default.
Not covered: the bases that a registry knows (`registry.versions.known_bases`).
"""

import re
from collections.abc import Iterable, Mapping

from registry.errors import BaseConfigInvalid
from registry.types import Base, Shapes

ARCHITECTURES = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
)
# Suffixes that say how a copy was quantised, not what it knows.
_QUANTISED = re.compile(r"(?:-unsloth|-bnb|-[48]bit|-nf4|-int[48]|-awq|-gptq|-fp8)+$")
_WINDOWS_DRIVE = re.compile(r"[A-Za-z]:")
_EMBEDDING = "embed_tokens"


def canonical_base(name: str) -> str | None:
    """Return the one spelling for all that mean the same base, or None for a path.

    Lower case, without the owner, `Meta-` and suffixes of quantised copies. Instruct is not
    folded into the base model, nor one release into another: their shapes agree, their weights
    do not. A path says nothing about what lies there.
    """
    text = name.strip()
    if not text or _is_path(text):
        return None
    return _QUANTISED.sub("", text.lower().rpartition("/")[2].removeprefix("meta-"))


def _is_path(text: str) -> bool:
    return (
        text.startswith(("/", ".", "~"))
        or text.endswith("/")
        or "\\" in text
        or _WINDOWS_DRIVE.match(text) is not None
        or text.count("/") > 1
    )


def base_key(text: str) -> str:
    """Return what bases and their aliases are compared by: the canonical form, or a path as is."""
    return canonical_base(text) or text.strip()


def base_keys(name: str, aliases: Iterable[str]) -> frozenset[str]:
    """Return the keys of a base's name and aliases."""
    return frozenset(base_key(text) for text in (name, *aliases))


def quantised_note(name: str) -> str | None:
    """Return the part of `name` that says the base was a quantised copy, for example "bnb-4bit"."""
    match = _QUANTISED.search(name.strip().lower())
    return None if match is None or _is_path(name.strip()) else match.group().lstrip("-")


def is_embedding(module: str) -> bool:
    """Say whether a module takes an embedding pair rather than a linear one."""
    return module.rpartition(".")[2] == _EMBEDDING


def module_shapes(config: Mapping[str, object]) -> dict[str, tuple[int, int]]:
    """Return (d_out, d_in) of every module that an adapter may change, from a `config.json`.

    The embedding's entry is (width, vocabulary); see `registry.types.Base`.

    Raises:
        BaseConfigInvalid: an architecture that is not known here (the error says which are), or a
            size that is missing or no positive integer.
    """
    architecture = architecture_of(config)
    if architecture not in ARCHITECTURES:
        raise BaseConfigInvalid("architectures", architecture, f"one of {', '.join(ARCHITECTURES)}")
    hidden, vocabulary = _size(config, "hidden_size"), _size(config, "vocab_size")
    layer = _layer_shapes(config, hidden)
    shapes = {f"model.{_EMBEDDING}": (hidden, vocabulary), "lm_head": (vocabulary, hidden)}
    for index in range(_size(config, "num_hidden_layers")):
        shapes |= {f"model.layers.{index}.{name}": shape for name, shape in layer.items()}
    return shapes


def architecture_of(config: Mapping[str, object]) -> str | None:
    """Return the architecture that a `config.json` names, or None."""
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else None


def _layer_shapes(config: Mapping[str, object], hidden: int) -> dict[str, tuple[int, int]]:
    heads, ffn = _size(config, "num_attention_heads"), _size(config, "intermediate_size")
    key_heads = _size(config, "num_key_value_heads", heads)
    head = _size(config, "head_dim", hidden // heads)
    return {
        "self_attn.q_proj": (heads * head, hidden),
        "self_attn.k_proj": (key_heads * head, hidden),
        "self_attn.v_proj": (key_heads * head, hidden),
        "self_attn.o_proj": (hidden, heads * head),
        "mlp.gate_proj": (ffn, hidden),
        "mlp.up_proj": (ffn, hidden),
        "mlp.down_proj": (hidden, ffn),
    }


def _size(config: Mapping[str, object], key: str, default: int | None = None) -> int:
    value = config.get(key)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
        raise BaseConfigInvalid(key, value, "a positive integer")
    return value


def _llama_31_8b_instruct() -> Base:
    name = "meta-llama/Llama-3.1-8B-Instruct"
    config: dict[str, object] = {
        "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
        "vocab_size": 128256,
    }  # fmt: skip
    shapes: Shapes = module_shapes(config)
    return Base(name, architecture_of(config), shapes, base_keys(name, ()))


# Known from the start, so that the default model can be served without asking the Hub. Its usual
# other names (Meta-Llama-…, unsloth's quantised copies) all have the same key.
LLAMA_31_8B_INSTRUCT = _llama_31_8b_instruct()
