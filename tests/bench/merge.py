"""`make bench-merge`: every merge method from files to a folder, beside its floor and its peers.

`python -m tests.bench.merge [--device cuda] [--quick] [--only NAME …]`
prints one table and writes
build/bench-merge.json. Inputs are made once under build/bench (five adapters of 84 MB; thirty of
about 4 GB in all, without --quick). Everything is measured in this one run, three times where it
takes seconds, and the best counts: a benchmark of the machine's neighbours is of no use. --quick
takes one block of the model in place of 32 and leaves the slow peers out: for trying the benchmark.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from merge.methods import METHODS
from tests.bench import floors, inputs, on_device, peers
from tests.bench.inputs import LAYERS, RANK, Ingredients
from tests.bench.one import Case, Outcome, measure

BUILD = Path(__file__).parents[2] / "build"
_REPEATS = 3
_ENOUGH_SECONDS = 4.0  # what takes longer is measured once
_BUSY = "while True: sum(range(10000))"

console = Console()


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    method: str
    options: dict[str, object]
    scaled: bool = False  # measured on one block, seconds times the number of blocks


def rows() -> Iterator[Row]:
    """Yield every registered method at rank 16, those with a choice of basis once per basis."""
    for name, method in METHODS.items():
        options: dict[str, object] = {"rank": RANK} if "rank" in method.parameters else {}
        basis = method.parameters.get("basis")
        yield Row(name, name, options, scaled=basis is not None)
        if basis is not None:
            for choice in ("knots", "core"):
                yield Row(f"{name} basis={choice}", name, {**options, "basis": choice})


class Bench:
    """A run: where inputs and outputs lie, and what was found."""

    def __init__(self, *, quick: bool) -> None:
        self.root = BUILD / "bench"
        self.root.mkdir(parents=True, exist_ok=True)
        self.quick = quick
        self.blocks = 1 if quick else LAYERS
        self.five = inputs.five(self.root, blocks=self.blocks)
        self.found: dict[str, Any] = {
            "blocks": self.blocks,
            "floor_copy_s": min(
                floors.copy_seconds(self.five, self.five.nbytes // 5, self.root)
                for _ in range(_REPEATS)
            ),
            "torch_cat_s": min(
                floors.torch_cat_seconds(self.five, self.root) for _ in range(_REPEATS)
            ),
        }

    def take(self, row: Row, ingredients: Ingredients, **how: Any) -> dict[str, Any]:
        """Measure one row and its floor."""
        known = METHODS[row.method]
        used = ingredients.first(known.requirements.members)
        case = Case(
            row.method, row.options, [str(path) for path in used.paths], str(self.root / "out"),
            **how,
        )  # fmt: skip
        best = self._best(case)
        factor = LAYERS if row.scaled and not self.quick else 1
        floor = min(
            floors.copy_seconds(used, best.output_bytes, self.root) for _ in range(_REPEATS)
        )
        return {
            "seconds": best.seconds * factor,
            "peak_mb": best.peak_mb,
            "floor_s": floor * factor,
            **({"scaled_from_blocks": 1} if factor > 1 else {}),
        }

    def _best(self, case: Case) -> Outcome:
        outcomes = [measure(case)]
        while len(outcomes) < _REPEATS and outcomes[0].seconds < _ENOUGH_SECONDS:
            outcomes.append(measure(case))
        return min(outcomes, key=lambda outcome: outcome.seconds)

    def methods(self, only: list[str]) -> None:
        """Measure every method, or those of these names."""
        block = inputs.five(self.root, blocks=1)
        table = {}
        for row in rows():
            if only and row.method not in only:
                continue
            console.print(f"[dim]{row.name}[/dim]")
            table[row.name] = self.take(row, block if row.scaled else self.five)
        self.found["methods"] = table

    def kin(self) -> None:
        """Measure five ingredients that were begun from one seed."""
        drawn = inputs.kin(self.root)
        table = {}
        for method in ("linear", "tsv", "lego"):
            console.print(f"[dim]{method} of kin[/dim]")
            table[method] = self.take(Row(method, method, {"rank": RANK}), drawn)
        self.found["kin"] = {"input_bytes": drawn.nbytes, "methods": table}

    def many(self) -> None:
        """Measure thirty ingredients of the pool's shapes."""
        drawn = inputs.thirty(self.root)
        chosen = [Row(m, m, {"rank": RANK}) for m in ("linear", "lego")] + [Row("cat", "cat", {})]
        table = {}
        for row in chosen:
            console.print(f"[dim]{row.name} of thirty[/dim]")
            table[row.name] = self.take(row, drawn)
        self.found["thirty"] = {"input_bytes": drawn.nbytes, "methods": table}

    def peers(self) -> None:
        """Measure the same work by scikit-learn and PEFT."""
        console.print("[dim]peers[/dim]")
        self.found |= peers.sklearn_lego(self.five, 1 if self.quick else 8)
        for kind in ("linear", "cat"):
            self.found[f"peft_{kind}_s"] = peers.peft_thin(self.five, kind)
        attention = "model.layers.0.self_attn."
        names = [f"{attention}k_proj"] + ([] if self.quick else [f"{attention}q_proj"])
        self.found["peft_svd_s"], error = peers.peft_svd(self.five, names, "svd")
        self.found["linear_sigma_error"] = error
        self.found["peft_ties_svd_s"], _ = peers.peft_svd(self.five, names, "ties_svd", density=0.2)
        self.found["peft_dare_linear_svd_s"], _ = peers.peft_svd(
            self.five, names, "dare_linear_svd", density=0.2
        )

    def neighbour(self) -> None:
        """Measure LEGO beside a busy process: our processes, and kernels on two OpenMP threads."""
        console.print("[dim]beside a busy process[/dim]")
        row = Row("lego", "lego", {"rank": RANK})
        with _busy_process():
            ours = self.take(row, self.five)["seconds"]
            openmp = self.take(row, self.five, workers=1, kernel_threads=2)["seconds"]
        self.found["busy_neighbour"] = {"ours_s": ours, "two_openmp_threads_s": openmp}

    def on_device(self, name: str) -> None:
        """Measure the methods alone, on tensors that lie on the device."""
        import torch

        cases = {row.name: (row.method, row.options) for row in rows() if not row.scaled}
        self.found["device"] = {
            "name": torch.cuda.get_device_name() if name == "cuda" else name,
            "methods": on_device.table(torch.device(name), self.five, cases),
        }


@contextmanager
def _busy_process() -> Iterator[None]:
    neighbour = subprocess.Popen([sys.executable, "-c", _BUSY])
    try:
        yield
    finally:
        neighbour.kill()
        neighbour.wait()


def show(found: dict[str, Any]) -> None:
    """Print everything as one table."""
    table = Table(title=f"merges of five rank-16 adapters, {found['blocks']} blocks, best of runs")
    table.add_column("")
    for column in ("seconds", "times floor", "peak MB"):
        table.add_column(column, justify="right")
    table.add_column("")
    measured = dict(found["methods"])
    for kind in ("kin", "thirty"):
        rows_of_kind = found.get(kind, {}).get("methods", {})
        measured |= {f"{kind}: {name}": row for name, row in rows_of_kind.items()}
    for name, row in measured.items():
        table.add_row(
            name, f"{row['seconds']:.2f}", f"{row['seconds'] / row['floor_s']:.1f}",
            f"{row['peak_mb']:.0f}", "from one block" if "scaled_from_blocks" in row else "",
        )  # fmt: skip
    table.add_section()
    for name, value in found.items():
        if isinstance(value, float):
            table.add_row(name, f"{value:.4g}")
    for name, value in found.get("busy_neighbour", {}).items():
        table.add_row(f"beside a busy process: {name}", f"{value:.2f}")
    for name, row in found.get("device", {}).get("methods", {}).items():
        table.add_row(f"on the device: {name}", f"{row['seconds']:.3f}", f"{row['times_copy']:.1f}")
    console.print(table)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--quick", action="store_true", help="one block, fewer peers")
    parser.add_argument("--only", nargs="+", default=[], help="these methods, and nothing else")
    chosen = parser.parse_args()
    bench = Bench(quick=chosen.quick)
    bench.methods(chosen.only)
    if not chosen.only:
        bench.neighbour()
        bench.peers()
        if not chosen.quick:
            bench.kin()
            bench.many()
    if chosen.device != "cpu":
        bench.on_device(chosen.device)
    show(bench.found)
    if not chosen.only:
        (BUILD / "bench-merge.json").write_text(json.dumps(bench.found, indent=1) + "\n")


if __name__ == "__main__":
    main()
