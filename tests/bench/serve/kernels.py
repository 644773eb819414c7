"""weft's CPU kernels against vLLM's own: four adapters in a batch, at 1, 8 and 64 streams.

Two engines with one command line, one of them without weft's plug-in, are asked directly, in
alternating rounds. vLLM's kernels have faults (server/engine/cpu_kernels.py), none of which these
requests meet: all of them name an adapter.
"""

from contextlib import ExitStack
from pathlib import Path

from tests.bench.cluster.processes import engines
from tests.bench.serve.load import Part, Table, Target, compare, ratio, table_lines
from tests.engine.gateway import ADAPTERS, DEMO, serve_settings

ROUNDS = 3
REQUESTS = {1: 8, 8: 32, 64: 64}  # of one round
ADAPTER_COUNT = 4


async def measure(home: Path) -> Part:
    """Start both engines and compare them."""
    models = ADAPTERS[:ADAPTER_COUNT]
    modules = " ".join(f"{name}={DEMO / 'adapters' / name}" for name in ADAPTERS)
    targets = dict[str, Target]()
    with ExitStack() as stack:
        for name, plugins in (("vLLM's own kernels", ""), ("weft's kernels", "weft")):
            settings = serve_settings(
                home / (plugins or "stock"), max_loras=ADAPTER_COUNT,
                engine_args=f"--lora-modules {modules}",
            )  # fmt: skip
            (started,) = stack.enter_context(engines(settings, 1, VLLM_PLUGINS=plugins))
            targets[name] = Target(started.endpoint, models)
        return as_part(await compare(targets, rounds=ROUNDS, requests=REQUESTS))


def as_part(table: Table) -> Part:
    """Return the table, with ratios of weft's kernels to vLLM's."""
    stock, ours = table.values()
    speedup = ratio(ours, stock)
    words = " | ".join(f"{n:>2} streams x{x:.2f}" for n, x in speedup.items())
    return Part(
        f"LoRA kernels on the CPU, {ADAPTER_COUNT} adapters in a batch: requests a second, and "
        "milliseconds to the first token",
        [*table_lines(table), f"weft's over vLLM's own: {words}"],
        {"kernels": {
            "speedup": speedup,
            "before": {str(n): round(one.throughput, 2) for n, one in stock.items()},
            "after": {str(n): round(one.throughput, 2) for n, one in ours.items()},
        }},
    )  # fmt: skip
