"""Names of bases, and the shapes of a base's modules.

This module compares the spellings of a base's name, reads the `config.json` of Llama-like
architectures, and defines the base that weft serves by default. The bases that are stored in a
registry are in `registry.versions.known_bases`.
"""

import string
from collections.abc import Iterable, Mapping

from registry.errors import BaseConfigInvalid
from registry.types import Base, Shapes

ARCHITECTURES = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
)
# Suffixes of quantised copies. They describe the storage of the weights, not another model.
_QUANTISED = (
    "-unsloth", "-bnb", "-4bit", "-8bit", "-nf4", "-int4", "-int8", "-awq", "-gptq", "-fp8",
)  # fmt: skip
_EMBEDDING = "embed_tokens"


def canonical_base(name: str) -> str | None:
    """Return the canonical spelling of a base's name, or None for a path.

    The canonical spelling is in lower case, without the owner, without `meta-` and without the
    suffixes of quantised copies. Different releases, and a base and its Instruct model, stay
    distinct because their weights differ, although their shapes are equal. A path does not
    identify the model in that folder.
    """
    text = name.strip()
    if not text or _is_path(text):
        return None
    name = text.lower().rpartition("/")[2].removeprefix("meta-")
    return name[: _quantised_from(name)]


def _quantised_from(name: str) -> int:
    """Return where the suffixes of a quantised copy begin in a lower-case name.

    Positions, not copies: a name of a megabyte of suffixes takes milliseconds.
    """
    end = len(name)
    while name.endswith(_QUANTISED, 0, end):
        end = name.rindex("-", 0, end)
    return end


def _is_path(text: str) -> bool:
    return (
        text.startswith(("/", ".", "~"))
        or text.endswith("/")
        or "\\" in text
        or (text[1:2] == ":" and text[0] in string.ascii_letters)
        or text.count("/") > 1
    )


def base_key(text: str) -> str:
    """Return the key for comparing bases and their aliases: the canonical form, or a path."""
    return canonical_base(text) or text.strip()


def base_keys(name: str, aliases: Iterable[str]) -> frozenset[str]:
    """Return the keys of a base's name and aliases."""
    return frozenset(base_key(text) for text in (name, *aliases))


def quantised_note(name: str) -> str | None:
    """Return the quantisation suffix of `name`, for example "bnb-4bit", or None."""
    text = name.strip()
    lower = text.lower()
    suffix = lower[_quantised_from(lower) :].lstrip("-")
    return None if not suffix or _is_path(text) else suffix


def is_embedding(module: str) -> bool:
    """Return whether a module is an embedding rather than a linear layer."""
    return module.rpartition(".")[2] == _EMBEDDING


def module_shapes(config: Mapping[str, object]) -> dict[str, tuple[int, int]]:
    """Return the (d_out, d_in) of every module that an adapter can change, from a `config.json`.

    The entry of the embedding is (width, vocabulary); see `registry.types.Base`.

    Raises:
        BaseConfigInvalid: the architecture is not supported, or a size is missing or not a
            positive integer. The error lists the supported architectures.
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
    """Return the first architecture in a `config.json`, or None."""
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else None


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


# This base is built in, so that the default model can be served without a request to the Hub. Its
# usual other names (Meta-Llama-…, the quantised copies of unsloth) have the same key.
LLAMA_31_8B_INSTRUCT = _llama_31_8b_instruct()
