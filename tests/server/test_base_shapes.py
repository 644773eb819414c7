"""Bases of architectures without a rule: their shapes, and what the engine cannot do with them."""

from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config

from registry.errors import BaseConfigInvalid
from registry.service import Registry
from registry.types import Shapes
from server import base_shapes, children
from server.engine.lora_models import lora_problem
from tests.server.conftest import MakeClient, MakeGateway

SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 96}
WIDE = SIZES | {"hidden_size": 32, "intermediate_size": 48}
GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 96}
# architecture -> config, the modules of one layer by their names' ends, and how many there are
CASES: dict[str, tuple[dict[str, Any], dict[str, tuple[int, int]], int]] = {
    "GemmaForCausalLM": (
        WIDE | {"model_type": "gemma", "num_key_value_heads": 2, "head_dim": 16},
        {"model.layers.1.self_attn.q_proj": (64, 32), "model.layers.1.self_attn.k_proj": (32, 32),
         "model.layers.1.mlp.down_proj": (32, 48), "model.embed_tokens": (32, 96)},
        16,
    ),
    "GPT2LMHeadModel": (
        GPT2,
        {"transformer.h.1.attn.c_attn": (96, 32), "transformer.h.1.mlp.c_fc": (128, 32),
         "transformer.h.1.mlp.c_proj": (32, 128), "lm_head": (96, 32)},
        9,
    ),
    "GPTNeoXForCausalLM": (
        WIDE | {"model_type": "gpt_neox"},
        {"gpt_neox.layers.1.attention.query_key_value": (96, 32),
         "gpt_neox.layers.1.mlp.dense_h_to_4h": (48, 32)},
        9,
    ),
    "PhiForCausalLM": (
        WIDE | {"model_type": "phi"},
        {"model.layers.1.self_attn.dense": (32, 32), "model.layers.1.mlp.fc1": (48, 32)},
        14,
    ),
    "OPTForCausalLM": (
        SIZES | {"model_type": "opt", "hidden_size": 32, "ffn_dim": 48, "word_embed_proj_dim": 32},
        {"model.decoder.layers.1.self_attn.out_proj": (32, 32),
         "model.decoder.layers.1.fc2": (32, 48), "model.decoder.embed_tokens": (32, 96)},
        14,
    ),
}  # fmt: skip


def config_of(architecture: str) -> dict[str, Any]:
    """Return a config.json of an architecture."""
    return CASES[architecture][0] | {"architectures": [architecture]}


def each_shapes(configs: dict[str, dict[str, Any]]) -> dict[str, Shapes]:
    """Return the shapes of each config; in a child, whose memory is limited once."""
    shapes: dict[str, Shapes] = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, config in configs.items():
            shapes[name] = base_shapes.meta_shapes(config)
            patch.setattr(children, "limit_memory", lambda _: None)
    return shapes


@pytest.fixture(scope="module")
def shapes() -> dict[str, Shapes]:
    """The shapes of all cases, from one child."""
    return children.call(each_shapes, {name: config_of(name) for name in CASES}, seconds=300)


@pytest.mark.parametrize("architecture", CASES)
def test_shapes_are_those_of_the_model(shapes: dict[str, Shapes], architecture: str) -> None:
    """A model without weights has every linear layer under the name that PEFT gives it, with
    (d_out, d_in), also where it stores the transpose."""
    _, expected, count = CASES[architecture]
    actual = shapes[architecture]
    assert expected == {name: actual[name] for name in expected}
    assert count == len(actual), sorted(actual)


@pytest.fixture
def in_no_child(shapes: dict[str, Shapes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes come from the child of the fixture above."""

    def call(_function: object, config: dict[str, Any], *, seconds: float) -> Shapes:
        assert seconds > 0
        (architecture,) = config["architectures"]
        if architecture not in shapes:
            raise children.ChildFailed("KeyError: 'acme'")
        return shapes[architecture]

    monkeypatch.setattr(children, "call", call)


async def test_any_causal_model_can_be_a_base(
    make_gateway: MakeGateway, make_client: MakeClient, in_no_child: None, registry: Registry,
    tmp_path: Path,
) -> None:  # fmt: skip
    """A base of such an architecture admits what PEFT trains on it; what vLLM cannot serve is said
    when the base is added."""
    async with make_client(make_gateway()) as client:
        made = [await add(client, name) for name in ("GPT2LMHeadModel", "PhiForCausalLM")]
    assert ["GPT2LMHeadModel without LoRA"] == [
        note.partition("serves ")[2].partition(":")[0] for item in made for note in item["notes"]
    ]
    model = AutoModelForCausalLM.from_config(GPT2Config(**GPT2))
    config = LoraConfig(r=2, target_modules=["c_attn", "c_fc"], init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(str(tmp_path / "trained"))
    found = registry.adapters.register(
        tmp_path / "trained", name="trained", base="acme/GPT2LMHeadModel"
    )
    assert (96, 32) == (
        found.version.modules["transformer.h.0.attn.c_attn"].d_out,
        found.version.modules["transformer.h.0.attn.c_attn"].d_in,
    )


async def add(client: AsyncClient, architecture: str) -> dict[str, Any]:
    """Add a base of an architecture and return the answer."""
    body = {"name": f"acme/{architecture}", "config": config_of(architecture)}
    answer = await client.post("/registry/bases", json=body)
    assert answer.status_code == 201, answer.text
    item: dict[str, Any] = answer.json()
    return item


def test_a_model_that_transformers_lacks_is_refused(in_no_child: None) -> None:
    """The error names the architecture, and says what was expected and why it failed."""
    with pytest.raises(BaseConfigInvalid, match=r"AcmeForCausalLM.*KeyError.*transformers"):
        base_shapes.base_shapes({"architectures": ["AcmeForCausalLM"], "model_type": "acme"})


@pytest.mark.parametrize(
    ("architecture", "problem"),
    [
        ("LlamaForCausalLM", None), ("MistralForCausalLM", None), ("Qwen3ForCausalLM", None),
        ("GemmaForCausalLM", None), ("OPTForCausalLM", None), ("PhiForCausalLM", None),
        ("GPTNeoXForCausalLM", None), ("GPT2LMHeadModel", "serves GPT2LMHeadModel without LoRA"),
        ("AcmeForCausalLM", "has no class for AcmeForCausalLM"),
    ],
)  # fmt: skip
def test_what_the_engine_serves_is_read_from_its_source(
    architecture: str, problem: str | None
) -> None:
    """The installed vLLM's own classes say which architectures take adapters, also through
    Transformers' backend and through classes that inherit."""
    answer = lora_problem(architecture)
    assert (problem or "") in (answer or "")
    assert (problem is None) == (answer is None)
