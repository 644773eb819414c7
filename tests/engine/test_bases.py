"""Two bases on one machine, each with a real engine."""

import asyncio
import os
import shutil
import signal
from pathlib import Path

import httpx
import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from registry.service import Registry
from registry.sources.folder import import_folder
from server.base_model import ensure_base
from server.settings import Settings
from tests.adapters import make_adapter
from tests.engine.gateway import BASE, DEMO, START_SECONDS, Weft, running, serve_settings

OTHER = "test/other"


def make_base(path: Path) -> Path:
    """Write a model with random weights, the demo's tokenizer and shapes of its own."""
    config = LlamaConfig(
        hidden_size=128, intermediate_size=256, num_attention_heads=4, num_key_value_heads=2,
        num_hidden_layers=2, vocab_size=280, max_position_embeddings=512, eos_token_id=1,
        pad_token_id=0, tie_word_embeddings=True, initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(DEMO / "base" / name, path)
    return path


def two_bases(tmp_path: Path) -> Settings:
    """Return settings that serve the demo base and another one."""
    plain = serve_settings(tmp_path / "home", engine_start_seconds=2 * START_SECONDS)
    values = plain.model_dump(exclude_unset=True, exclude={"model", "served_base"})
    other = {"model": str(make_base(tmp_path / "other")), "max_lora_rank": 16}
    return Settings(**values, bases={BASE: {"model": str(DEMO / "base")}, OTHER: other})


def import_adapters(registry: Registry, settings: Settings, folder: Path) -> None:
    """Import the demo's adapters, and two for the other base."""
    demo, other = (ensure_base(registry, own) for own in settings.of_bases())
    for item in import_folder(registry, DEMO / "adapters", base=demo.name, alias="prod"):
        assert not isinstance(item.outcome, Exception), item.outcome
    modules = {name: (i, o) for name, (o, i) in other.shapes.items() if "layers" in name}
    for seed, name in enumerate(("north", "south")):
        made = make_adapter(folder / name, seed=seed, modules=modules, base=OTHER, size=0.2)
        registry.adapters.register(made, name=name, base=OTHER)


async def answer(weft: Weft, http: httpx.AsyncClient, model: str) -> tuple[str, str]:
    """Return the model that answers, and its text."""
    answered = await weft.complete(http, model, "zorp: abc")
    return answered["model"], answered["choices"][0]["message"]["content"]


async def problems(http: httpx.AsyncClient) -> set[str]:
    """Return the parts of the gateway that are not ready."""
    return set((await http.get("/ready")).json().get("problems", {}))


def engine_of(weft: Weft, base: str) -> int:
    """Return the process of the engine that serves a base."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        words = path.read_bytes().decode(errors="replace").split("\0")
        if base in words and str(weft.process.pid) in (path.parent / "stat").read_text().split():
            return int(path.parent.name)
    raise AssertionError(f"{base} has no engine")


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_one_machine_serves_two_bases(tmp_path: Path) -> None:
    """`weft serve` starts an engine for each base; every name is answered by its own, and a base
    whose engine is killed is told by /ready and leaves the other alone."""
    settings = two_bases(tmp_path)
    with running(settings) as weft:
        import_adapters(weft.registry, settings, tmp_path)
        async with weft.http() as http:
            listed = {card["id"] for card in (await http.get("/v1/models")).json()["data"]}
            answers = {
                model: await answer(weft, http, model)
                for model in (BASE, OTHER, "zorp", "north", "zorp + blim", "north + south")
            }
            mixed = await http.post("/v1/completions", json={"model": "zorp + north", "prompt": ""})
            logs = sorted(path.name for path in settings.home.glob("engine*.log"))
            os.killpg(engine_of(weft, OTHER), signal.SIGKILL)
            async with asyncio.timeout(30):
                while await problems(http) != {f"engine of {OTHER}"}:
                    await asyncio.sleep(0.1)
            assert answers["zorp"] == await answer(weft, http, "zorp")

    assert {BASE, OTHER, "zorp", "north", "south"} <= listed
    assert (BASE, OTHER) == (answers[BASE][0], answers[OTHER][0])
    assert "CBA" == answers["zorp"][1]
    assert 6 == len({name for name, _ in answers.values()})
    assert 400 <= mixed.status_code < 500
    assert ["engine-test--other.log", "engine-weft--demo-llama.log"] == logs
