"""How fast the registry imports and searches: `build/bench-registry.json`.

Import: 960 adapters with the ranks and modules of the recycled pool (arXiv 2602.12323) at 1/64 of
Llama-3.1-8B's width, one after the other, into SQLite; only `Registry.register` is timed. Search:
`Finder.search`, from a question's vector to ten hits, among vectors of 384 numbers on SQLite and
PostgreSQL, where the index's build time and recall@10 are told too. The million rows (pgvector
alone) are asked for with `--million`. The vectors have 32 degrees of freedom and some noise, about
as many as embeddings of sentences; `--degrees 384` makes them uniform, the worst case of any index.
Not covered: several at once, encoders, networks.
"""

import argparse
import itertools
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import create_engine, text

from merge.peft_format import TensorSpec, WeightsWriter
from merge.peft_format.names import tensor_names
from registry.bases import is_embedding, module_shapes
from registry.search.embeddings import Embedder
from registry.search.finder import Finder
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.storage.database import Database
from server.embedders import WeightSketch
from tests.bench.many_rows import DIM, QUESTIONS, Vectors, fill
from tests.postgresql import Server, serve

POOL = Path(__file__).parents[1] / "data" / "recycled_pool" / "shapes.json"
OUT = Path("build") / "bench-registry.json"
BASE = "bench/llama-64th"
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 224,
    "num_attention_heads": 4, "num_key_value_heads": 1, "num_hidden_layers": 32, "vocab_size": 2004,
}  # fmt: skip
SHAPES = module_shapes(CONFIG)
IMPORTS = 960
SIZES = {"1k": 1000, "100k": 100_000}
MILLION = 1_000_000
DEGREES = 32
BEST = 10
_INDEX = f"ix_embeddings_text_{DIM}"


def pool() -> Iterator[tuple[int, list[str]]]:
    """Yield rank and modules of the pool's adapters, over and over, but what fits no Llama."""
    kinds = json.loads(POOL.read_text())
    every = [
        (kind["r"], modules)
        for kind in kinds
        for modules in [[name for name in SHAPES if _targeted(name, kind["target_modules"])]]
        if modules
        for _ in range(kind["count"])
    ]
    order = np.random.default_rng(0).permutation(len(every))
    return (every[i] for i in itertools.cycle(order))


def _targeted(name: str, targets: list[str]) -> bool:
    return name in targets or name.rpartition(".")[2] in targets


def write_adapter(folder: Path, rank: int, modules: list[str], seed: int) -> None:
    """Write a random bf16 adapter."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    specs = []
    for name in modules:
        d_out, d_in = SHAPES[name]
        a, b = tensor_names(name, "embedding" if is_embedding(name) else "linear")
        specs += [TensorSpec(a, "BF16", (rank, d_in)), TensorSpec(b, "BF16", (d_out, rank))]
    with WeightsWriter(folder / "adapter_model.safetensors", specs) as writer:
        for spec in specs:
            numbers = rng.standard_normal(spec.shape, np.float32) * np.float32(0.02)
            writer.write(spec.name, (numbers.view(np.uint32) >> 16).astype("<u2").tobytes())
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank,
              "base_model_name_or_path": BASE, "target_modules": "all-linear"}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text(f"Adapter {seed} of the benchmark, rank {rank}.")


def imports_per_second(root: Path, count: int) -> float:
    """Import `count` adapters of the pool's shapes into SQLite."""
    database = Database(f"sqlite:///{root / 'weft.db'}")
    database.upgrade()
    registry = Registry(
        database, LocalBlobs(root / "blobs"), embedder=Embedder(sketcher=WeightSketch())
    )
    registry.bases.add(BASE, shapes=SHAPES)
    seconds = 0.0
    for seed, (rank, modules) in zip(range(count), pool(), strict=False):
        folder = root / "adapter"
        write_adapter(folder, rank, modules, seed)
        begun = time.perf_counter()
        registry.adapters.register(folder, name=f"bench/a{seed}")
        seconds += time.perf_counter() - begun
        shutil.rmtree(folder)
    database.close()
    return count / seconds


def search_ms(database: Database, vectors: Vectors) -> tuple[dict[str, float], list[list[int]]]:
    """Ask every question; return milliseconds (p50, p95, the first search's), and what was found.

    On SQLite a process's first search reads all vectors; the others find them in memory.
    """
    finder = Finder(database, Embedder(encoder=vectors))
    milliseconds, found = [], []
    for question in (0, *range(QUESTIONS)):
        begun = time.perf_counter()
        hits = finder.search(str(question), limit=BEST)
        milliseconds.append((time.perf_counter() - begun) * 1000)
        found.append([int(str(hit.as_reference().name).removeprefix("a")) for hit in hits])
    p50, p95 = np.percentile(milliseconds[1:], [50, 95])
    figures = {"p50": p50, "p95": p95, "first": milliseconds[0]}
    return {name: round(float(value), 2) for name, value in figures.items()}, found[1:]


@contextmanager
def filled(url: str, count: int, vectors: Vectors) -> Iterator[tuple[Database, float]]:
    """Yield a database of `count` rows, and the seconds that building its vector index took."""
    database = Database(url)
    database.upgrade()
    engine, seconds = create_engine(url), 0.0
    with engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            fill(connection, BASE, count, vectors)
        else:
            query = text("SELECT indexdef FROM pg_indexes WHERE indexname = :name")
            define = connection.execute(query, {"name": _INDEX}).scalar_one()
            connection.execute(text(f"DROP INDEX {_INDEX}"))
            fill(connection, BASE, count, vectors)
            connection.execute(text("SET LOCAL maintenance_work_mem = '4GB'"))
            begun = time.perf_counter()
            connection.execute(text(define))
            seconds = time.perf_counter() - begun
            connection.execute(text("ANALYZE"))
    engine.dispose()
    yield database, seconds
    database.close()


def recall(found: list[list[int]], count: int, vectors: Vectors) -> float:
    """Return which share of the true nearest was found, by all vectors, drawn again."""
    asked = vectors.encode([str(question) for question in range(QUESTIONS)])
    best = np.full((QUESTIONS, BEST), -np.inf, np.float32)
    ids, begin = np.zeros((QUESTIONS, BEST), np.int64), 1
    for chunk in vectors.stored(count):
        every = np.hstack([best, asked @ chunk.T])
        numbers = np.tile(np.arange(begin, begin + len(chunk)), (QUESTIONS, 1))
        numbers, begin = np.hstack([ids, numbers]), begin + len(chunk)
        top = np.argpartition(-every, BEST, axis=1)[:, :BEST]
        best, ids = np.take_along_axis(every, top, 1), np.take_along_axis(numbers, top, 1)
    hits = [len(set(row) & set(true)) for row, true in zip(found, ids.tolist(), strict=True)]
    return sum(hits) / (BEST * QUESTIONS)


def on_sqlite(root: Path, count: int, vectors: Vectors) -> dict[str, float]:
    """Search `count` rows by looking at all of them."""
    file = root / "search.db"
    with filled(f"sqlite:///{file}", count, vectors) as (database, _):
        figures, _ = search_ms(database, vectors)
    file.unlink()
    return figures


def on_postgresql(server: Server, count: int, vectors: Vectors) -> dict[str, float]:
    """Search `count` rows by pgvector's index."""
    url = server.create()
    with filled(url, count, vectors) as (database, seconds):
        figures, found = search_ms(database, vectors)
    server.drop(url)
    share = round(recall(found, count, vectors), 3)
    return figures | {"index_s": round(seconds, 1), "recall_at_10": share}


class Report:
    """The figures so far, on disk after each of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._figures: dict[str, Any] = {}
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, figure: object, *names: str) -> None:
        """Put a figure under these names, one in the other."""
        print(f"{' '.join(names)}: {figure}", flush=True)  # noqa: T201 - a benchmark talks
        into = self._figures
        for name in names[:-1]:
            into = into.setdefault(name, {})
        into[names[-1]] = figure
        self._path.write_text(json.dumps(self._figures, indent=2) + "\n")


def main() -> None:
    """Measure and write `build/bench-registry.json`; SQLite's figures, as the default, lead."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imports", type=int, default=IMPORTS)
    parser.add_argument("--sizes", nargs="*", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--million", action="store_true", help="needs about 10 GB of disk")
    parser.add_argument("--degrees", type=int, default=DEGREES)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    report, vectors = Report(asked.out), Vectors(asked.degrees)
    with tempfile.TemporaryDirectory() as folder, serve() as server:
        root = Path(folder)
        if asked.imports:
            report.add(round(imports_per_second(root, asked.imports), 2), "import_per_s")
        for size in asked.sizes:
            sqlite = on_sqlite(root, SIZES[size], vectors)
            postgresql = on_postgresql(server, SIZES[size], vectors)
            report.add(sqlite | {"postgresql": postgresql}, "search_ms", size)
        if asked.million:
            report.add(on_postgresql(server, MILLION, vectors), "search_ms", "1M")


if __name__ == "__main__":
    main()
