"""How fast the registry imports and searches: `build/bench-registry.json`.

Import: 960 adapters with the ranks and modules of the recycled pool (arXiv 2602.12323) at 1/64 of
Llama-3.1-8B's width, one after the other, into SQLite; only `Registry.register` is timed. Search:
a question in a space of random unit vectors, encoded beforehand, at several sizes on SQLite and
PostgreSQL. The million (384 numbers each, pgvector alone) is asked for with `--million`; it reports
the index's build time and recall@10 too. Not covered: several at once, encoders, networks.
"""

import argparse
import itertools
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, create_engine, insert, text

from merge.peft_format import TensorSpec, WeightsWriter
from merge.peft_format.names import tensor_names
from registry.bases import is_embedding, module_shapes
from registry.blobs import LocalBlobs
from registry.database import Database
from registry.embedding import Embedder
from registry.encoding import unit_rows
from registry.models import AdapterRow, AdapterVersionRow, BaseRow, EmbeddingRow, NameRow
from registry.search_queries import Space
from registry.service import Registry
from registry.vectors import Index
from server.embedders import WeightSketch
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
DIM = 384
SPACE = Space("text", "bench", DIM)
SIZES = {"1k": 1000, "100k": 100_000}
MILLION = 1_000_000
QUESTIONS = 100
_CHUNK = 2000


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
    registry.add_base(BASE, shapes=SHAPES)
    seconds = 0.0
    for seed, (rank, modules) in zip(range(count), pool(), strict=False):
        folder = root / "adapter"
        write_adapter(folder, rank, modules, seed)
        begun = time.perf_counter()
        registry.register(folder, name=f"bench/a{seed}")
        seconds += time.perf_counter() - begun
        shutil.rmtree(folder)
    database.close()
    return count / seconds


def fill(connection: Connection, count: int) -> None:
    """Add `count` adapters of one version each with random unit vectors, past all rules."""
    rng = np.random.default_rng(0)
    stamp: dict[str, Any] = {"created_at": datetime.now(UTC), "created_by": "bench"}
    connection.execute(
        insert(NameRow), [{"name": BASE, "kind": "base", "visibility": "public"} | stamp]
    )
    connection.execute(insert(BaseRow), [{"name": BASE, "shapes": {}}])
    for start in range(0, count, _CHUNK):
        ids = range(start + 1, min(start + _CHUNK, count) + 1)
        vectors = unit_rows(rng.standard_normal((len(ids), DIM)))
        connection.execute(
            insert(NameRow),
            [{"name": f"a{i}", "kind": "adapter", "visibility": "public"} | stamp for i in ids],
        )
        connection.execute(insert(AdapterRow), [{"name": f"a{i}"} for i in ids])
        connection.execute(
            insert(AdapterVersionRow),
            [
                {"id": i, "name": f"a{i}", "number": 1, "digest": f"{i:064d}", "base": BASE,
                 "rank": 8 << i % 4, "modules": {}, "use_rslora": False, "dtypes": ["BF16"],
                 "bytes": 1, "norm": 1.0, "status": "admitted", "report": {}} | stamp
                for i in ids
            ],
        )  # fmt: skip
        connection.execute(
            insert(EmbeddingRow),
            [
                {"version_id": i, "kind": SPACE.kind, "encoder": SPACE.encoder, "dim": DIM,
                 "vector": vector, "revision": 1}
                for i, vector in zip(ids, vectors, strict=True)
            ],
        )  # fmt: skip
    connection.execute(text("UPDATE revision SET number = 1"))


def questions() -> NDArray[np.float32]:
    """Random unit vectors, none of which is stored."""
    return unit_rows(np.random.default_rng(1).standard_normal((QUESTIONS, DIM)))


def search_ms(database: Database) -> tuple[dict[str, float], list[list[int]]]:
    """Ask every question; return p50 and p95 in milliseconds, and what was found."""
    index = Index()
    milliseconds, found = [], []
    with database.read() as session:  # a process's first search reads what the others find there
        index.nearest(session, SPACE, questions()[0], (), 10)
    for question in questions():
        begun = time.perf_counter()
        with database.read() as session:
            found.append(list(index.nearest(session, SPACE, question, (), 10)))
        milliseconds.append((time.perf_counter() - begun) * 1000)
    p50, p95 = np.percentile(milliseconds, [50, 95])
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}, found


@contextmanager
def filled(url: str, count: int, *, index_last: bool = False) -> Iterator[tuple[Database, float]]:
    """Yield a database of `count` rows, and the seconds that its vector index took by itself."""
    database = Database(url)
    database.upgrade()
    engine, seconds, name = create_engine(url), 0.0, f"ix_embeddings_{SPACE.kind}_{DIM}"
    with engine.begin() as connection:
        define = None
        if index_last:
            query = text("SELECT indexdef FROM pg_indexes WHERE indexname = :name")
            define = connection.execute(query, {"name": name}).scalar_one()
            connection.execute(text(f"DROP INDEX {name}"))
        fill(connection, count)
        if define is not None:
            connection.execute(text("SET LOCAL maintenance_work_mem = '4GB'"))
            begun = time.perf_counter()
            connection.execute(text(define))
            seconds = time.perf_counter() - begun
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE"))
    engine.dispose()
    yield database, seconds
    database.close()


def recall(found: list[list[int]], count: int) -> float:
    """Hold what was found against all vectors, drawn again chunk by chunk."""
    rng, asked = np.random.default_rng(0), questions()
    best = np.full((QUESTIONS, 10), -np.inf, np.float32)
    ids = np.zeros((QUESTIONS, 10), np.int64)
    for start in range(0, count, _CHUNK):
        size = min(_CHUNK, count - start)
        scores = asked @ unit_rows(rng.standard_normal((size, DIM))).T
        every = np.hstack([best, scores])
        names = np.hstack([ids, np.tile(np.arange(start + 1, start + size + 1), (QUESTIONS, 1))])
        top = np.argsort(-every, axis=1)[:, :10]
        best, ids = np.take_along_axis(every, top, 1), np.take_along_axis(names, top, 1)
    hits = [len(set(row) & set(true)) for row, true in zip(found, ids.tolist(), strict=True)]
    return sum(hits) / (10 * QUESTIONS)


def measure(root: Path, server: Server, sizes: dict[str, int]) -> dict[str, Any]:
    """Search both databases at every size; the figures of SQLite, which is the default, lead."""
    figures: dict[str, Any] = {}
    for name, count in sizes.items():
        with filled(f"sqlite:///{root / f'{name}.db'}", count) as (database, _):
            figures[name] = search_ms(database)[0]
        with filled(server.create(), count) as (database, _):
            figures[name]["postgresql"] = search_ms(database)[0]
        _say(name, figures[name])
    return figures


def million(server: Server) -> dict[str, Any]:
    """Search a million rows with pgvector."""
    with filled(server.create(), MILLION, index_last=True) as (database, seconds):
        figures, found = search_ms(database)
    return figures | {"index_s": round(seconds, 1), "recall_at_10": recall(found, MILLION)}


def _say(what: str, figures: object) -> None:
    print(f"{what}: {figures}", flush=True)  # noqa: T201 - a benchmark talks


def main() -> None:
    """Measure and write `build/bench-registry.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imports", type=int, default=IMPORTS)
    parser.add_argument("--sizes", nargs="*", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--million", action="store_true", help="needs about 10 GB of disk")
    asked = parser.parse_args()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if asked.imports:
            result["import_per_s"] = round(imports_per_second(Path(folder), asked.imports), 2)
            _say("imports per second", result["import_per_s"])
        with serve() as server:
            sizes = {name: SIZES[name] for name in asked.sizes}
            result["search_ms"] = measure(Path(folder), server, sizes)
            if asked.million:
                result["search_ms"]["1M"] = million(server)
                _say("1M", result["search_ms"]["1M"])
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
