"""Self-test at every start: the engine keeps the base and adapters apart.

vLLM's stock CPU kernels answer a base request with another request's adapter when the two share a
batch. weft replaces these kernels (cpu_kernels.py), and this test does not rely on the replacement,
whatever the device: it sends the same greedy requests alone and then together, and refuses an
engine whose answers differ. No request can choose its batch, so every model is asked several times
while the others are: with a single round, a short answer of the base ended before the others began.
"""

import asyncio
import json
import math
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import numpy as np

from merge.peft_format import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    AdapterConfig,
    TensorSpec,
    WeightsWriter,
    tensor_names,
)
from registry.storage.blobs import LocalBlobs
from server.engine.protocol import Engine

_PROMPT = "weft: one, two, three"
_TOKENS = 6
_ROUNDS = 6  # of every model while the others are asked
# A batch of another size rounds differently; another adapter's answer is off by far more.
_TOLERANCE = 0.25  # nats
# Frobenius norm of a canary's whole update: large enough to change every answer, and below the norm
# of 1,000 that adapters may have.
_CANARY_NORM = 300.0
_MODULES = ("o_proj", "down_proj")  # every llama-like layer has them: registry.bases

Shapes = Mapping[str, tuple[int, int]]  # module -> (d_out, d_in)
# Per step: token, its log-probability, the likeliest tokens' log-probabilities.
Answer = list[tuple[str, float, dict[str, float]]]


class SelfTestFailed(Exception):
    """The engine mixes up requests and must not serve."""


async def self_test(
    engine: Engine, *, base: str, shapes: Shapes, artifacts: LocalBlobs, slots: int, seed: int
) -> None:
    """Compare answers of models alone with answers in mixed batches that fill every adapter slot.

    Args:
        engine: the engine under test.
        base: its base's name.
        shapes: of the base's modules.
        artifacts: where the engine loads from. The canaries are removed from both afterwards.
        slots: the adapters that the engine can run in one step.
        seed: of the canaries, and so of their digests; of two tests of one engine each has its own.

    Raises:
        SelfTestFailed: an answer differs between the two, or adapters have no effect.
        EngineError: the engine does not accept the requests.
    """
    async with AsyncExitStack() as stack:
        seeds = np.random.SeedSequence(seed).spawn(slots)
        canaries = [await _canary(stack, engine, artifacts, base, shapes, own) for own in seeds]
        models = [base, *canaries]
        alone = [await _complete(engine, model) for model in models]
        together = await asyncio.gather(*(_again(engine, model) for model in models))
    for model, expected, answers in zip(models, alone, together, strict=True):
        if not all(_same(expected, answer) for answer in answers):
            what = "the base" if model == base else "an adapter"
            raise SelfTestFailed(f"{what} answers differently when adapters share its batch")
    if any(_same(alone[0], answer) for answer in alone[1:]):
        raise SelfTestFailed("an adapter has no effect on this engine")


async def _canary(
    stack: AsyncExitStack,
    engine: Engine,
    artifacts: LocalBlobs,
    base: str,
    shapes: Shapes,
    seed: np.random.SeedSequence,
) -> str:
    digest = await asyncio.to_thread(_write_canary, artifacts, base, shapes, seed)
    stack.push_async_callback(asyncio.to_thread, artifacts.delete, digest)
    await engine.load(digest)
    stack.push_async_callback(engine.remove, digest)
    return digest


def _write_canary(
    artifacts: LocalBlobs, base: str, shapes: Shapes, seed: np.random.SeedSequence
) -> str:
    """Write a rank-1 adapter with a large random update; return its digest."""
    chosen = {name: shape for name, shape in shapes.items() if name.endswith(_MODULES)}
    if not chosen:
        raise SelfTestFailed(f"the base has no module named {' or '.join(_MODULES)} to test with")
    specs: dict[str, TensorSpec] = {}
    for module, (d_out, d_in) in chosen.items():
        for name, shape in zip(
            tensor_names(module, "linear"), ((1, d_in), (d_out, 1)), strict=True
        ):
            specs[name] = TensorSpec(name, "F32", shape)
    rng = np.random.default_rng(seed)
    config = AdapterConfig(1, 1.0, use_rslora=False, rank_pattern={}, alpha_pattern={}, base=base)
    # A module's update b a has the norm |b| |a|, and the squares of the modules' norms add up: each
    # of n modules gets norm/√n, and each of its two factors the square root of that.
    length = math.sqrt(_CANARY_NORM / math.sqrt(len(chosen)))
    with artifacts.workspace() as workspace:
        folder = workspace / "canary"
        folder.mkdir()
        (folder / CONFIG_NAME).write_bytes(config.dump(chosen))
        with WeightsWriter(folder / WEIGHTS_NAME, specs.values()) as writer:
            for name, spec in specs.items():
                vector = rng.standard_normal(spec.shape)
                vector *= length / np.linalg.norm(vector)
                writer.write(name, vector.astype("<f4").tobytes())
        return artifacts.adopt(folder)


async def _again(engine: Engine, model: str) -> list[Answer]:
    return [await _complete(engine, model) for _ in range(_ROUNDS)]


async def _complete(engine: Engine, model: str) -> Answer:
    request = {
        "model": model, "prompt": _PROMPT, "max_tokens": _TOKENS, "temperature": 0,
        "logprobs": 5, "ignore_eos": True,
    }  # fmt: skip
    data = json.dumps(request).encode()
    async with engine.send("/v1/completions", data, model=model) as response:
        body = await response.read()
    if response.status != 200:
        raise SelfTestFailed(f"the engine answered {response.status}: {body[:300]!r}")
    logprobs: dict[str, Any] = json.loads(body)["choices"][0]["logprobs"]
    return list(
        zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True)
    )


def _same(expected: Answer, answer: Answer) -> bool:
    """Return whether two greedy answers agree up to rounding."""
    for (token, logprob, likeliest), (other, other_logprob, _) in zip(
        expected, answer, strict=True
    ):
        if token != other:
            # Rounding may decide a near tie either way, and the tokens after it are then of
            # another text. So they are not compared.
            tied = likeliest.get(other, -math.inf)
            return abs(tied - logprob) < _TOLERANCE and abs(tied - other_logprob) < _TOLERANCE
        if not abs(logprob - other_logprob) <= _TOLERANCE:  # also when either is NaN
            return False
    return True
