"""`make bench-adapt`: what a training step of coefficients costs beside one of a plain LoRA.

`python -m tests.bench.adapt [--device cuda] [--quick]` prints one table and writes
build/bench-adapt.json. For K = 5, 10, 30 frozen adapters of one rank, and for the same total rank
cut into other numbers of adapters: the step (forward, backward, optimiser) and what its pass keeps
for the way back, of

- a plain LoRA of the same total rank, trained: the measure;
- the gated layer: the K adapters side by side, a gate on each rank, two products a module;
- K layers of their own, each with its coefficient: 2K products a module, as the release of
  arXiv 2602.12323 has it.

Steps of the three are taken in turns and the median counts, so that a busy neighbour meets all.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from merge.adaptive.model.coefficients import Coefficients, Gated
from merge.adaptive.model.fresh_lora import Fresh, FreshPlan, linear_widths
from merge.adaptive.model.hooks import Updates, attached, freeze
from merge.adaptive.model.stacked import Modules, stack
from merge.adaptive.options import Design
from merge.factors import Factors
from merge.seeds import generator_for

BUILD = Path(__file__).parents[2] / "build"
RANK = 16
COUNTS = (5, 10, 30)
TOTAL = 240  # cut into other numbers of adapters
TOKENS = (4, 128)  # sequences, tokens in each
STEPS = 9


class Step(NamedTuple):
    """What one step takes."""

    seconds: float
    kept_mb: float  # for the way back, the base's share included


class Apart(Updates):
    """K frozen adapters as K pairs of products, each with one coefficient per module."""

    def __init__(self, adapters: Sequence[Modules]) -> None:
        super().__init__({name: _Pairs([a[name] for a in adapters]) for name in adapters[0]})


class _Pairs(nn.Module):
    def __init__(self, members: Sequence[Factors]) -> None:
        super().__init__()
        for at, member in enumerate(members):
            self.register_buffer(f"a{at}", member.a)
            self.register_buffer(f"b{at}", member.b)
        self.gates = nn.Parameter(torch.full((len(members),), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """Sum the K updates of an input."""
        parts = [
            gate * (x @ self.get_buffer(f"a{at}").T @ self.get_buffer(f"b{at}").T)
            for at, gate in enumerate(self.gates)
        ]
        return torch.stack(parts).sum(0)


def base_of(device: torch.device, *, quick: bool) -> Any:
    """Return a frozen random Llama: an eighth of Llama-3.1-8B's width on a CPU, all of it else."""
    width = 64 if quick else 512 if device.type == "cpu" else 4096
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        config = LlamaConfig(
            vocab_size=1024, hidden_size=width, intermediate_size=width * 7 // 2,
            num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=2,
        )  # fmt: skip
        return freeze(LlamaForCausalLM(config).to(device))


def random_adapters(model: Any, count: int, rank: int) -> list[Modules]:
    """Return adapters of every linear module in the layers."""
    found: list[Modules] = []
    for at in range(count):
        modules = {}
        for name, (d_in, d_out) in linear_widths(model).items():
            generator = generator_for(at, name)
            a = torch.randn(rank, d_in, generator=generator) / d_in**0.5
            b = torch.randn(d_out, rank, generator=generator) * 0.01
            modules[name] = Factors(a, b)
        found.append(modules)
    return found


def contenders(model: Any, count: int, rank: int) -> dict[str, Updates]:
    """Return the three kinds of updates for `count` adapters of a rank."""
    adapters = random_adapters(model, count, rank)
    layers, layout = stack(adapters)
    return {
        "lora": Fresh(linear_widths(model), FreshPlan(rank=count * rank, dropout=0.0)),
        "gated": Gated(layers, Coefficients(layout, Design())),
        "apart": Apart(adapters),
    }


def measure(model: Any, updates: dict[str, Updates], *, steps: int = STEPS) -> dict[str, Step]:
    """Return what a step takes with each, their steps taken in turns."""
    device = next(model.parameters()).device
    tokens = torch.randint(1024, TOKENS, generator=generator_for(0, "tokens")).to(device)
    doing = {name: _stepper(model, each.to(device), tokens) for name, each in updates.items()}
    kept = {}
    for name, do in doing.items():
        with _counting() as bytes_of:
            do()  # the first one also warms up
        kept[name] = sum(bytes_of.values()) / 1e6
    taken: dict[str, list[float]] = {name: [] for name in doing}
    for _ in range(steps):
        for name, do in doing.items():
            began = time.perf_counter()
            do()
            taken[name].append(time.perf_counter() - began)
    return {name: Step(median(taken[name]), kept[name]) for name in doing}


def _stepper(model: Any, updates: Updates, tokens: Tensor) -> Callable[[], None]:
    trained = [p for p in updates.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)

    def step() -> None:
        with attached(model, updates):
            model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if tokens.device.type == "cuda":
            torch.cuda.synchronize()

    return step


@contextmanager
def _counting() -> Iterator[dict[int, int]]:
    """Count the bytes that autograd keeps, each storage once."""
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if not isinstance(x, nn.Parameter):
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        yield kept


def cases(*, quick: bool) -> list[tuple[int, int]]:
    """Return (adapters, rank) to measure: K at one rank, and one total rank cut up."""
    if quick:
        return [(2, 4), (4, 2)]
    return [*((k, RANK) for k in COUNTS), *((k, TOTAL // k) for k in (2, *COUNTS))]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="tiny: for trying the benchmark")
    asked = parser.parse_args()
    device = torch.device(asked.device)
    model = base_of(device, quick=asked.quick)
    table = Table(title=f"One training step, {TOKENS[0]} sequences of {TOKENS[1]} tokens, {device}")
    for column in (
        "adapters", "rank", "total", "LoRA ms", "gated ms", "ratio", "apart ms", "ratio",
        "LoRA MB", "gated MB", "apart MB",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    found = []
    for count, rank in cases(quick=asked.quick):
        steps = measure(model, contenders(model, count, rank))
        lora, gated, apart = steps["lora"], steps["gated"], steps["apart"]
        table.add_row(
            str(count), str(rank), str(count * rank), f"{lora.seconds * 1e3:.1f}",
            f"{gated.seconds * 1e3:.1f}", f"{gated.seconds / lora.seconds:.2f}",
            f"{apart.seconds * 1e3:.1f}", f"{apart.seconds / lora.seconds:.2f}",
            f"{lora.kept_mb:.1f}", f"{gated.kept_mb:.1f}", f"{apart.kept_mb:.1f}",
        )  # fmt: skip
        found.append(
            {"adapters": count, "rank": rank, **{n: s._asdict() for n, s in steps.items()}}
        )
    Console(width=110).print(table)
    BUILD.mkdir(exist_ok=True)
    document = {"device": str(device), "tokens": TOKENS, "steps": found}
    (BUILD / "bench-adapt.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
