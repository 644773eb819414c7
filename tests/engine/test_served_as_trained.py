"""vLLM serves what was learned in torch: token by token, in float32."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from merge.adaptive.context import AdapterRef, Target
from merge.adaptive.methods.fold import fold_table
from merge.adaptive.model.base import load_base, load_tokenizer
from merge.adaptive.model.coefficients import Coefficients, Gated
from merge.adaptive.model.hooks import Updates, attached
from merge.adaptive.model.stacked import read_modules, stack
from merge.adaptive.options import Design
from merge.adaptive.scoring.examples import IGNORED, Example, encode
from merge.adaptive.training import Run, Schedule
from merge.peft_format import open_folder
from merge.recipe import Recipe
from merge.run import merge
from registry.references import parse_reference
from registry.storage.blobs import LocalBlobs
from registry.types import ResolvedAdapter
from tests.engine.gateway import BASE, DEMO, Weft
from tests.lab.language import TASKS_WITHOUT_ADAPTER

NAMES = ("zorp", "blim", "frob", "dwen")  # rank 8 each
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    """The demo's base in torch, float32, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_base(str(DEMO / "base"), torch.device("cpu"))
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    """Questions and answers of a task for which no adapter was trained."""
    tokenizer, rng = load_tokenizer(str(DEMO / "base")), Random(3)
    drawn = [TASKS_WITHOUT_ADAPTER["wolm"].draw(rng, "train") for _ in range(20)]
    chats = [
        [{"role": "user", "content": each.prompt}, {"role": "assistant", "content": each.answer}]
        for each in drawn
    ]
    return [encode(tokenizer, chat, longest=100) for chat in chats]


def adapters_of(weft: Weft) -> list[AdapterRef]:
    """Return adapters as the registry stores them."""
    blobs, found = LocalBlobs(weft.settings.blobs), []
    for name in NAMES:
        version = weft.registry.versions.resolve(parse_reference(name))
        assert isinstance(version, ResolvedAdapter)
        found.append(AdapterRef(name, version.digest, open_folder(blobs.path(version.digest))))
    return found


def learned(model: Any, adapters: list[AdapterRef], examples: list[Example]) -> Gated:
    """Return the adapters with coefficients from a short training."""
    layers, layout = stack([read_modules(each.folder) for each in adapters])
    updates = Gated(layers, Coefficients(layout, Design()))
    Run(
        stage="recycle", model=model, updates=updates, train=examples, validation=[],
        schedule=Schedule(steps=15), watch=lambda _: None,
    )()  # fmt: skip
    return updates


@torch.inference_mode()
def in_torch(model: Any, updates: Updates, examples: list[Example]) -> Tensor:
    """Return the log-probability of every answer token in torch, in order."""
    found = []
    with attached(model, updates):
        for each in examples:
            logs = model(torch.tensor([each.tokens])).logits[0].log_softmax(-1)
            found += [
                logs[at - 1, label] for at, label in enumerate(each.labels) if label != IGNORED
            ]
    return torch.stack(found)


async def in_vllm(weft: Weft, name: str, examples: list[Example]) -> Tensor:
    """Return the same log-probabilities as weft serves them, one request at a time."""
    found = []
    async with weft.http() as http:
        for each in examples:
            body = {"model": name, "prompt": each.tokens, "max_tokens": 1, "prompt_logprobs": 0}
            answer = await http.post("/v1/completions", json=body)
            assert answer.status_code == 200, answer.text
            logs = answer.json()["choices"][0]["prompt_logprobs"]
            found += [
                logs[at][str(label)]["logprob"]
                for at, label in enumerate(each.labels)
                if label != IGNORED
            ]
    return torch.tensor(found)


def publish(weft: Weft, name: str, recipe: Recipe) -> None:
    """Register a recipe as a composition."""
    weft.registry.compositions.add(
        name, expression="learned", recipe_text=recipe.canonical(),
        recipe_digest=recipe.digest(), base=recipe.base, ingredients=recipe.lineage, actor="tests",
    )  # fmt: skip


async def test_an_exact_fold_is_served_as_it_was_trained(
    weft: Weft, model: Any, examples: list[Example]
) -> None:
    """Every answer token's log-probability in vLLM equals that of the unfolded model in torch, to
    1e-3."""
    adapters = adapters_of(weft)
    updates = learned(model, adapters, examples)
    recipe = fold_table(adapters, updates.coefficients.table(), Target(BASE, "float32", 64))
    publish(weft, "learned/exact", recipe)

    served = await in_vllm(weft, "learned/exact", examples)

    trained = in_torch(model, updates, examples)
    assert "cat" == recipe.method
    assert float((served - trained).abs().max()) < TOLERANCE


async def test_a_truncated_fold_is_served_as_it_was_folded(
    weft: Weft, model: Any, examples: list[Example], tmp_path: Path
) -> None:
    """Above the rank limit the served log-probabilities equal those of the truncated files to
    1e-3, and the report states the kept energy."""
    adapters = adapters_of(weft)
    updates = learned(model, adapters, examples)
    recipe = fold_table(adapters, updates.coefficients.table(), Target(BASE, "float32", 8))
    publish(weft, "learned/truncated", recipe)
    report = merge(recipe, {h.digest: h.folder.path for h in adapters}, tmp_path / "out")

    served = await in_vllm(weft, "learned/truncated", examples)

    layers, _ = stack([read_modules(open_folder(tmp_path / "out"))])
    folded = in_torch(model, Updates(layers), examples)
    trained = in_torch(model, updates, examples)
    assert report.overall.energy is not None
    assert report.overall.energy < 0.999
    assert float((trained - folded).abs().max()) > TOLERANCE
    assert float((served - folded).abs().max()) < TOLERANCE
