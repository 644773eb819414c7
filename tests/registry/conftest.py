"""Tiny adapters on a tiny base, written by the safetensors library rather than by our writer."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from registry.bases import base_keys, module_shapes
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.storage.database import Database
from registry.types import Base
from tests.postgresql import Server, serve
from tests.transactions import watch_transactions

BASE = "acme/Tiny-Instruct"
BASE_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "vocab_size": 40,
}
SHAPES = module_shapes(BASE_CONFIG)
PREFIX = "base_model.model."
Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"
Tensors = dict[str, NDArray[Any]]


def tensors(
    *modules: str, rank: int = 2, seed: int = 0, dtype: type[np.generic] = np.float32
) -> Tensors:
    """Return seeded random pairs of matrices for `modules` (q_proj and down_proj by default)."""
    rng = np.random.default_rng(seed)
    made: Tensors = {}
    for module in modules or (Q, DOWN):
        d_out, d_in = SHAPES[module]
        made[f"{PREFIX}{module}.lora_A.weight"] = rng.normal(size=(rank, d_in)).astype(dtype)
        made[f"{PREFIX}{module}.lora_B.weight"] = rng.normal(size=(d_out, rank)).astype(dtype)
    return made


def config(**changes: object) -> dict[str, object]:
    """Return an adapter_config.json for `tensors()`; the value `...` removes a key."""
    document: dict[str, object] = {
        "peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": BASE,
        "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM",
    }  # fmt: skip
    return {key: value for key, value in (document | changes).items() if value is not ...}


def write_adapter(
    folder: Path, weights: Mapping[str, NDArray[Any]] | None = None, **changes: object
) -> Path:
    """Write a PEFT folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    made = dict(tensors() if weights is None else weights)
    targets = sorted({name.partition(".lora_")[0].rpartition(".")[2] for name in made})
    document = config(**({"target_modules": targets} | changes))
    (folder / "adapter_config.json").write_text(json.dumps(document))
    save_file(made, folder / "adapter_model.safetensors")
    return folder


@pytest.fixture(autouse=True)
def watched_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    watch_transactions(monkeypatch)


@pytest.fixture
def tiny_base() -> Base:
    return Base(BASE, "LlamaForCausalLM", SHAPES, base_keys(BASE, ()))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "weft.db"
    made = Database(f"sqlite:///{path}")
    made.upgrade()
    made.close()
    return path


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    with serve() as server:
        yield server


@pytest.fixture(scope="session")
def empty_postgresql(postgresql: Server) -> str:
    url = postgresql.create()
    made = Database(url)
    made.upgrade()
    made.close()  # PostgreSQL refuses a template database with open connections
    return url


@pytest.fixture
def sqlite_database(tmp_path: Path, empty_database: Path) -> Iterator[Database]:
    path = tmp_path / "store" / "weft.db"
    path.parent.mkdir()
    shutil.copyfile(empty_database, path)
    made = Database(f"sqlite:///{path}")
    yield made
    made.close()


@pytest.fixture(scope="session")
def shared_postgresql(postgresql: Server, empty_postgresql: str) -> str:
    return postgresql.create(empty_postgresql)


@pytest.fixture
def postgresql_database(postgresql: Server, shared_postgresql: str) -> Iterator[Database]:
    made = Database(shared_postgresql)
    yield made
    made.close()
    postgresql.empty(shared_postgresql)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    """Run each test on both databases."""
    made = request.getfixturevalue(f"{request.param}_database")
    assert isinstance(made, Database)
    return made


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "store" / "blobs")


@pytest.fixture
def registry(database: Database, blobs: LocalBlobs) -> Registry:
    made = Registry(database, blobs)
    made.bases.add(BASE, shapes=SHAPES, architecture="LlamaForCausalLM")
    return made


class Register(Protocol):
    """Registers a tiny adapter with content from `seed`; returns the digest of its version."""

    def __call__(self, name: str, *, seed: int = 0, alias: str | None = None) -> str:
        """Register an adapter and return the digest of its version."""


@pytest.fixture
def register(registry: Registry, tmp_path: Path) -> Register:
    def make(name: str, *, seed: int = 0, alias: str | None = None) -> str:
        folder = write_adapter(tmp_path / f"adapter-{seed}", tensors(seed=seed))
        return registry.adapters.register(folder, name=name, alias=alias).version.digest

    return make
