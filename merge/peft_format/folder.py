"""The adapter folder as a whole: config and weights held against each other, copied, digested."""

import hashlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from merge.peft_format.config import AdapterConfig, read_config
from merge.peft_format.header import (
    DTYPE_BYTES,
    TensorEntry,
    TensorSpec,
    WeightsWriter,
    read_header,
)
from merge.peft_format.names import Kind, parse_tensor_name, tensor_names
from merge.peft_format.problems import FormatError, Problem

DIGEST = "[0-9a-f]{64}"  # the pattern of `digest_folder`'s answers and of recipes' digests
CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
_PICKLES = ("adapter_model.bin", "adapter_model.pt")
_CHUNK_BYTES = 2**22
# A real adapter takes milliseconds; only patterns made to be slow take longer.
_MATCHING_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class LoraModule:
    """One module of an adapter: its update is `scale * b @ a`, of shape (d_out, d_in).

    For an embedding, `a` is (rank, vocabulary) and `b` is (width, rank), so d_in is the vocabulary.
    """

    name: str
    kind: Kind
    rank: int
    d_in: int
    d_out: int
    scale: float
    a: TensorEntry  # (rank, d_in)
    b: TensorEntry  # (d_out, rank)


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """A folder whose config and weights agree. Tensors are not read, only located."""

    path: Path
    config: AdapterConfig
    modules: Mapping[str, LoraModule]  # by module name, sorted

    @property
    def weights_path(self) -> Path:
        """The safetensors file that the modules' entries point into."""
        return self.path / WEIGHTS_NAME

    @property
    def rank(self) -> int:
        """The largest rank of any module: what an engine's rank limit is held against."""
        return max(module.rank for module in self.modules.values())

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes that occur, sorted; nearly always one."""
        entries = (entry for module in self.modules.values() for entry in (module.a, module.b))
        return tuple(sorted({entry.dtype for entry in entries}))


def open_folder(path: Path) -> AdapterFolder:
    """Return the adapter in folder `path`.

    Raises:
        FormatError: with every problem that was found.
    """
    folder, problems = inspect_folder(path)
    if folder is None:
        raise FormatError(problems)
    return folder


def inspect_folder(path: Path) -> tuple[AdapterFolder | None, list[Problem]]:
    """Return the adapter in folder `path`, or None with every problem that was found."""
    problems: list[Problem] = []
    config: AdapterConfig | None = None
    entries: dict[str, TensorEntry] | None = None
    try:
        config = read_config(_regular_file(path, CONFIG_NAME))
    except FormatError as error:
        problems += error.problems
    try:
        entries = read_header(_regular_file(path, WEIGHTS_NAME))
    except FormatError as error:
        problems += error.problems
    if entries is not None:
        pairs, wrong = _pair(entries)
        problems += wrong
        if config is not None:
            modules, wrong = _modules(pairs, config)
            problems += wrong
            if not problems:
                return AdapterFolder(path, config, modules), []
    return None, problems


def _regular_file(folder: Path, name: str) -> Path:
    path = folder / name
    if path.is_symlink() or not path.is_file():
        pickles = [pickle for pickle in _PICKLES if (folder / pickle).exists()]
        if name == WEIGHTS_NAME and pickles:
            found = f"{pickles[0]}, a pickle, which weft never opens: convert it to safetensors"
            raise FormatError([Problem("A003 pickle-weights", name, "safetensors", found)])
        code = "A001 config-missing" if name == CONFIG_NAME else "A002 weights-missing"
        raise FormatError([Problem(code, name, "a regular file", "nothing readable")])
    return path


_Pairs: TypeAlias = dict[str, dict[str, tuple[Kind, TensorEntry]]]


def _pair(entries: dict[str, TensorEntry]) -> tuple[_Pairs, list[Problem]]:
    """Group tensors by module: {module: {"a": …, "b": …}}; what is no LoRA factor is a problem."""
    pairs: _Pairs = {}
    problems: list[Problem] = []

    def wrong(code: str, expected: str, found: str, tensor: str) -> None:
        problems.append(Problem(code, WEIGHTS_NAME, expected, found, tensor[:200]))

    if not entries:
        problems.append(Problem("A008 no-tensors", WEIGHTS_NAME, "LoRA tensors", "none"))
    for name, entry in entries.items():
        parsed = parse_tensor_name(name)
        if parsed is None:
            wrong("A009 not-a-lora-tensor", "…lora_A.weight or …lora_B.weight", entry.dtype, name)
        elif entry.dtype not in DTYPE_BYTES:
            wrong("A016 tensor-dtype", " or ".join(DTYPE_BYTES), entry.dtype, name)
        elif len(entry.shape) != 2 or 0 in entry.shape:
            wrong("A017 tensor-shape", "two dimensions, none of them 0", str(entry.shape), name)
        elif parsed.side in pairs.setdefault(parsed.module, {}):
            wrong("A018 duplicate-tensor", f"one factor for {parsed.module}", "two", name)
        else:
            pairs[parsed.module][parsed.side] = (parsed.kind, entry)
    return pairs, problems


def _modules(pairs: _Pairs, config: AdapterConfig) -> tuple[dict[str, LoraModule], list[Problem]]:
    modules: dict[str, LoraModule] = {}
    problems: list[Problem] = []
    deadline = time.monotonic() + _MATCHING_SECONDS
    for name in sorted(pairs):
        if time.monotonic() > deadline:
            found = f"{len(pairs)} modules under patterns that take too long to match"
            problems.append(Problem("A015 config-pattern", CONFIG_NAME, "simple patterns", found))
            break
        module = _module(name, pairs[name], config)
        if isinstance(module, Problem):
            problems.append(module)
        else:
            modules[name] = module
    return modules, problems


def _module(
    name: str, pair: dict[str, tuple[Kind, TensorEntry]], config: AdapterConfig
) -> LoraModule | Problem:
    if not pair:
        return Problem("A019 pair-incomplete", WEIGHTS_NAME, "a usable pair", "none", name)
    kind, present = next(iter(pair.values()))
    names = dict(zip("ab", tensor_names(name, kind), strict=True))
    for side in "ab":
        if side not in pair or pair[side][0] != kind:
            return Problem(
                "A019 pair-incomplete", WEIGHTS_NAME, f"{names[side]} beside {present.name}",
                "nothing", names[side],
            )  # fmt: skip
    a, b = pair["a"][1], pair["b"][1]
    said = config.module(name)
    if a.shape[0] != b.shape[1]:
        return Problem(
            "A020 pair-mismatch", WEIGHTS_NAME, f"rank {a.shape[0]}, as lora_A {a.shape} has",
            f"rank {b.shape[1]} in shape {b.shape}", b.name,
        )  # fmt: skip
    if a.shape[0] != said.rank:
        return Problem(
            "A021 rank-mismatch", WEIGHTS_NAME, f"rank {said.rank}, as {CONFIG_NAME} says",
            f"rank {a.shape[0]} in shape {a.shape}", a.name,
        )  # fmt: skip
    return LoraModule(name, kind, said.rank, a.shape[1], b.shape[0], said.scale, a, b)


def normalise_folder(source: AdapterFolder, target: Path, *, base: str | None) -> None:
    """Write `source` into the existing empty folder `target` in weft's one normal form.

    The tensors' bytes are copied as they are; names, layout and config become canonical, so that
    equal adapters give equal files however they arrived.

    Raises:
        OSError: the disk is full or gone; what was written stays for the caller to remove.
    """
    config = replace(source.config.normalised(source.modules), base=base)
    (target / CONFIG_NAME).write_bytes(config.dump(source.modules))
    copies: list[tuple[TensorSpec, TensorEntry]] = []
    for module in source.modules.values():
        for name, entry in zip(
            tensor_names(module.name, module.kind), (module.a, module.b), strict=True
        ):
            copies.append((TensorSpec(name, entry.dtype, entry.shape), entry))
    with (
        source.weights_path.open("rb") as weights,
        WeightsWriter(target / WEIGHTS_NAME, (spec for spec, _ in copies)) as writer,
    ):
        for spec, entry in copies:
            data = os.pread(weights.fileno(), entry.end - entry.begin, entry.begin)
            writer.write(spec.name, data)


def is_digest(text: str) -> bool:
    """Say whether a text has the form of a digest: 64 lower-case hexadecimal digits."""
    return re.fullmatch(DIGEST, text) is not None


def digest_folder(path: Path) -> str:
    """Return the SHA-256 (64 hex digits) over a normal-form folder's config and weights.

    This is the identity of a version and of an artifact: the folder's name in every store and the
    adapter's name inside the engine.
    """
    digest = hashlib.sha256()
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        with (path / name).open("rb") as file:
            # The length in front keeps two files from passing for another split of the same bytes.
            digest.update(os.fstat(file.fileno()).st_size.to_bytes(8, "little"))
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()
