"""What serving costs beside a real engine: one table in words, and build/bench-serve.json.

Run it with `make bench-serve`. Parts, each described in its module: `added`, throughput and time to
the first token through the gateway, a bare relay and the engine itself; `cold`, a composition that
is new; `stall`, running streams beside merges; `vllm_client`, vLLM's own benchmark client; `zipf`,
a thousand compositions; `kernels`, weft's CPU kernels and vLLM's; `executor`, one and two engines
that compute in their core or in a worker; `memory`, the gateway under junk.
Ratios compare alternating rounds of one run, which a busy machine slows alike. Not covered: the
speed of merging (`tests.bench.merge`).
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any

from server.cli.demo import import_demo_adapters
from tests.bench.serve import added, cold, executor, kernels, memory, stall, vllm_client, zipf
from tests.bench.serve.load import Part
from tests.engine.gateway import Weft, running, serve_settings

OUT = Path("build") / "bench-serve.json"
SETTLE_SECONDS = 3.0  # what the engine still does after its start
# Parts on one `weft serve`, in this order: the last one fills the disk's budget.
ON_WEFT: Mapping[str, Callable[[Weft], Coroutine[Any, Any, Part]]] = {
    "added": added.measure, "cold": cold.measure, "stall": stall.measure,
    "vllm_client": vllm_client.measure, "zipf": zipf.measure,
}  # fmt: skip
# Parts with processes of their own, which get a folder.
ALONE: Mapping[str, Callable[[Path], Coroutine[Any, Any, Part]]] = {
    "executor": executor.measure, "kernels": kernels.measure, "memory": memory.measure,
}  # fmt: skip


def parts(names: Iterable[str], folder: Path) -> Iterable[Part]:
    """Measure the parts of these names."""
    on_weft = [name for name in names if name in ON_WEFT]
    if on_weft:
        settings = serve_settings(
            folder / "home", max_loras=zipf.SLOTS, max_cpu_loras=zipf.COMPOSITIONS,
            artifact_budget_bytes=zipf.BUDGET_BYTES,
        )  # fmt: skip
        settings.home.mkdir()
        import_demo_adapters(settings)
        with running(settings) as weft:
            time.sleep(SETTLE_SECONDS)
            for name in on_weft:
                yield asyncio.run(ON_WEFT[name](weft))
    for name in names:
        if name in ALONE:
            yield asyncio.run(ALONE[name](folder / name))


def main() -> None:
    """Print the table and write the document, which keeps the keys of parts that did not run."""
    parser = argparse.ArgumentParser(description=__doc__)
    every = [*ON_WEFT, *ALONE]
    parser.add_argument("--only", nargs="+", choices=every, default=every, help="default: all")
    names = parser.parse_args().only
    document: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() else {}
    OUT.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        for part in parts(names, Path(folder)):
            sys.stdout.write("\n".join([f"\n{part.title}", *(f"  {line}" for line in part.lines)]))
            sys.stdout.write(f"\n  ({time.monotonic() - began:.0f} s)\n")
            sys.stdout.flush()
            document.update(part.document)
            OUT.write_text(json.dumps(document, indent=1))
            began = time.monotonic()


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
