"""The engine at Llama-3.1-8B's true layer widths: two layers, random weights."""

import json
import shutil
from pathlib import Path

import pytest

from server.base_model import ensure_base
from tests.adapters import make_adapter
from tests.engine.gateway import DEMO, running, serve_settings

NAME = "test/llama-8b-widths"
# config.json of meta-llama/Llama-3.1-8B-Instruct, two of its 32 layers.
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
    "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8,
    "num_hidden_layers": 2, "vocab_size": 128256, "max_position_embeddings": 131072,
    "rope_theta": 500000.0, "rms_norm_eps": 1e-05, "tie_word_embeddings": False,
    "eos_token_id": 1, "torch_dtype": "bfloat16", "hidden_act": "silu",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_lego_of_three_at_true_widths(tmp_path: Path) -> None:
    """A rank-16 `lego` of three synthetic adapters merges, loads and answers under its digest."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (DEMO / "base" / name).exists():
            shutil.copy(DEMO / "base" / name, model)
    settings = serve_settings(
        tmp_path / "home",
        model=str(model),
        served_base=NAME,
        dtype="bfloat16",
        max_loras=2,
        max_lora_rank=16,
        max_model_len=128,
        engine_args="--load-format dummy",
        engine_start_seconds=600,
        self_test=False,  # vLLM's dummy weights give every token the same probability
    )

    with running(settings) as weft:
        base = ensure_base(weft.registry, settings)
        widths = {name: (i, o) for name, (o, i) in base.shapes.items() if "layers" in name}
        for seed, name in enumerate(("one", "two", "three")):
            folder = make_adapter(
                tmp_path / name,
                seed=seed,
                rank=16,
                alpha=16,
                modules=widths,
                dtype="bfloat16",
                base=NAME,
                size=0.02,
            )
            weft.registry.adapters.register(folder, name=name, base=NAME)
        async with weft.http() as http:
            body = {"model": "lego(one, two, three; rank=16)", "prompt": "abc", "max_tokens": 4}
            response = await http.post("/v1/completions", json=body)
            merged = weft.settings.artifacts / response.json()["model"]

        assert 200 == response.status_code, response.text
        assert 14 == len(json.loads((merged / "report.json").read_text())["modules"])
