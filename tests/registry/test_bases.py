"""Tests of base names and of the shapes of a base's modules."""

from collections.abc import Callable

import pytest
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config

from registry.bases import (
    LLAMA_31_8B_INSTRUCT,
    architecture_of,
    base_key,
    canonical_base,
    is_embedding,
    module_shapes,
    quantised_note,
)
from registry.errors import BaseConfigInvalid
from tests.growth import LINEAR, growth
from tests.registry.conftest import BASE_CONFIG


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Llama-3.1-8B-Instruct",
        "meta-llama/Meta-Llama-3.1-8B-Instruct",
        "meta-llama/meta-llama-3.1-8b-instruct",
        "unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit",
        "unsloth/meta-llama-3.1-8b-instruct-unsloth-bnb-4bit",
        "unsloth/Llama-3.1-8B-Instruct-unsloth",
        "someone/Llama-3.1-8B-Instruct-4bit",
        "someone/Llama-3.1-8B-Instruct-AWQ-INT4",
        " Llama-3.1-8B-Instruct ",
    ],
)
def test_one_base_has_many_names(name: str) -> None:
    """Owner, case, `Meta-` and suffixes of quantised copies do not change the canonical name."""
    assert "llama-3.1-8b-instruct" == canonical_base(name)
    assert base_key(name) in LLAMA_31_8B_INSTRUCT.keys


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Llama-3.1-8B",
        "meta-llama/Meta-Llama-3-8B-Instruct",
        "meta-llama/Llama-3.1-70B-Instruct",
        "meta-llama/Llama-3.1-8B-Instruct-v2",
    ],
)
def test_another_model_is_never_folded_in(name: str) -> None:
    """The base model, another release and another size have different canonical names."""
    assert base_key(name) not in LLAMA_31_8B_INSTRUCT.keys


@pytest.mark.parametrize(
    "name",
    ["/models/llama", "./llama", "../llama", "~/llama", "C:\\models\\llama", "D:llama",
     "models\\llama", "a/b/llama", "llama/", "", "  "],
)  # fmt: skip
def test_a_path_decides_nothing(name: str) -> None:
    """A path has no canonical name; it matches only an alias with the same text."""
    assert canonical_base(name) is None
    assert name.strip() == base_key(name)


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("unsloth/Meta-Llama-3.1-8B-Instruct-unsloth-bnb-4bit", "unsloth-bnb-4bit"),
        ("x/y-GPTQ-Int4", "gptq-int4"),
        ("meta-llama/Llama-3.1-8B-Instruct", None),
        ("/disk/llama-4bit", None),
    ],
)
def test_quantised_training_is_noted(name: str, note: str | None) -> None:
    """The note is the suffix that the canonical name omits."""
    assert note == quantised_note(name)


@pytest.mark.parametrize("unit", ["-4bit", "-unsloth-bnb", "a", " ", "/", "-"])
def test_no_name_takes_long_to_compare(unit: str) -> None:
    """The time to fold a name grows as its length does, to a million characters."""

    def fold(length: int) -> Callable[[], None]:
        name = "x/y" + unit * (length // len(unit)) + "!"

        def run() -> None:
            for text in (name, name[:-1]):
                canonical_base(text)
                quantised_note(text)

        return run

    assert growth(fold, 1_000_000) < LINEAR


def _real_shapes(config: LlamaConfig | Qwen3Config) -> dict[str, tuple[int, int]]:
    """Return the shapes of the model in transformers; embeddings are transposed."""
    import torch

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shapes = {}
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if weight is not None and weight.dim() == 2:
            rows, columns = weight.shape
            shapes[name] = (columns, rows) if is_embedding(name) else (rows, columns)
    return shapes


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**{k: v for k, v in BASE_CONFIG.items() if k != "architectures"}),
        Qwen3Config(
            hidden_size=16, intermediate_size=24, num_attention_heads=4, num_hidden_layers=2,
            num_key_value_heads=2, head_dim=6, vocab_size=40,
        ),
    ],
)  # fmt: skip
def test_shapes_agree_with_the_model_that_transformers_builds(
    config: LlamaConfig | Qwen3Config,
) -> None:
    """The result has every matrix of the real model with its shape, and no other."""
    document = config.to_dict() | {"architectures": [f"{type(config).__name__[:-6]}ForCausalLM"]}
    assert _real_shapes(config) == module_shapes(document)


def test_the_default_base_needs_no_hub() -> None:
    """Llama 3.1 8B has 224 linear modules in its layers, an embedding and a head."""
    shapes = LLAMA_31_8B_INSTRUCT.shapes
    assert 226 == len(shapes)
    assert (1024, 4096) == shapes["model.layers.31.self_attn.k_proj"]
    assert (4096, 14336) == shapes["model.layers.0.mlp.down_proj"]
    assert (4096, 128256) == shapes["model.embed_tokens"]
    assert (128256, 4096) == shapes["lm_head"]
    assert "LlamaForCausalLM" == LLAMA_31_8B_INSTRUCT.architecture


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "LlamaForCausalLM"),
        ({"architectures": []}, "LlamaForCausalLM"),
        ({"architectures": "LlamaForCausalLM"}, "LlamaForCausalLM"),
        ({"hidden_size": None}, "hidden_size"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"num_hidden_layers": True}, "num_hidden_layers"),
        ({"num_key_value_heads": "8"}, "num_key_value_heads"),
        ({"head_dim": -4}, "head_dim"),
    ],
)
def test_a_config_that_does_not_fit_says_which_key(change: dict[str, object], word: str) -> None:
    """The error for an unknown architecture lists the supported ones; that for a size names it."""
    with pytest.raises(BaseConfigInvalid, match=word):
        module_shapes(BASE_CONFIG | change)


def test_heads_count_for_keys_when_nothing_else_is_said() -> None:
    """Without `num_key_value_heads`, each head has its own keys."""
    config = {key: value for key, value in BASE_CONFIG.items() if key != "num_key_value_heads"}
    assert (16, 16) == module_shapes(config)["model.layers.0.self_attn.k_proj"]
    assert architecture_of({}) is None
