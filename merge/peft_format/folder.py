"""The adapter folder as a whole: config and weights held against each other, copied, digested."""

import hashlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from merge.peft_format.config import AdapterConfig, inspect_config
from merge.peft_format.header import (
    DTYPE_BYTES,
    TensorEntry,
    TensorSpec,
    WeightsWriter,
    read_header,
)
from merge.peft_format.names import (
    Kind,
    is_base_copy,
    parse_tensor_name,
    stranger,
    tensor_names,
)
from merge.peft_format.problems import (
    FETCH_LFS,
    LFS_MARK,
    LFS_POINTER,
    FormatError,
    Problem,
    one_per_cause,
)

DIGEST = "[0-9a-f]{64}"  # the pattern of `digest_folder`'s answers and of recipes' digests
CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
PICKLED_WEIGHTS = ("adapter_model.bin", "adapter_model.pt")
_CHUNK_BYTES = 2**22
# A real adapter takes milliseconds; only patterns made to be slow take longer.
_MATCHING_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class FactorPair:
    """The two factors of one module in the weights file, before the config is consulted."""

    name: str
    kind: Kind
    a: TensorEntry  # (rank, d_in)
    b: TensorEntry  # (d_out, rank)

    @property
    def rank(self) -> int:
        """The rank that both tensors have."""
        return self.a.shape[0]

    @property
    def d_in(self) -> int:
        """As `LoraModule.d_in`."""
        return self.a.shape[1]

    @property
    def d_out(self) -> int:
        """As `LoraModule.d_out`."""
        return self.b.shape[0]


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
    base_copies: tuple[TensorEntry, ...] = ()  # of the base's embedding and head; never read

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


@dataclass(frozen=True, slots=True)
class Inspection:
    """What could be read of a folder, and every problem of it, one for each cause.

    `pairs` and `modules` hold what can be examined further: `modules` those of `pairs` that the
    config gives a rank and a scale. `folder` is None when there is any problem.
    """

    problems: tuple[Problem, ...]
    pairs: Mapping[str, FactorPair]  # by module name, sorted
    modules: Mapping[str, LoraModule]
    base_copies: tuple[TensorEntry, ...]
    folder: AdapterFolder | None


def open_folder(path: Path) -> AdapterFolder:
    """Return the adapter in folder `path`.

    Raises:
        FormatError: with every problem.
    """
    inspection = inspect_folder(path)
    if inspection.folder is None:
        raise FormatError(inspection.problems)
    return inspection.folder


def inspect_folder(path: Path) -> Inspection:
    """Examine config and weights; a problem of the one does not hide those of the other."""
    problems: list[Problem] = []
    config: AdapterConfig | None = None
    reader = _Reader(problems)
    pairs: dict[str, FactorPair] = {}
    try:
        config, wrong = inspect_config(_regular_file(path, CONFIG_NAME))
        problems += wrong
    except FormatError as error:
        problems += error.problems
    try:
        pairs = reader.pairs(read_header(_regular_file(path, WEIGHTS_NAME)))
    except FormatError as error:
        problems += error.problems
    modules = {} if config is None else reader.modules(pairs, config)
    folder = None
    if config is not None and not problems:
        folder = AdapterFolder(path, config, modules, tuple(reader.base_copies))
    return Inspection(
        tuple(one_per_cause(problems)), pairs, modules, tuple(reader.base_copies), folder
    )


def _regular_file(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_symlink() and path.is_file():
        return path
    if name == CONFIG_NAME:
        raise FormatError([Problem("A001 config-missing", name, "a regular file", "none")])
    for pickle in PICKLED_WEIGHTS:
        if (folder / pickle).exists():
            raise FormatError([_pickle_problem(folder / pickle)])
    raise FormatError([Problem("A002 weights-missing", name, "a regular file", "none")])


def _pickle_problem(path: Path) -> Problem:
    if path.is_file() and not path.is_symlink():
        with path.open("rb") as file:
            if file.read(len(LFS_MARK)) == LFS_MARK:
                expected = f"weights; {FETCH_LFS}"
                return Problem("A004 lfs-pointer", path.name, expected, LFS_POINTER)
    expected = "safetensors; run `weft convert FOLDER --out NEW_FOLDER`"
    return Problem("A003 pickle-weights", path.name, expected, "a pickle, which weft never opens")


class _Reader:
    """Reads pairs and modules out of a header; what is wrong is added to `problems`."""

    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems
        self.base_copies: list[TensorEntry] = []

    def _wrong(self, code: str, tensor: str, expected: str, found: str) -> None:
        self._problems.append(Problem(code, WEIGHTS_NAME, expected, found, tensor[:200]))

    def pairs(self, entries: Mapping[str, TensorEntry]) -> dict[str, FactorPair]:
        """Group tensors by module, and keep the pairs that are complete."""
        if not entries:
            self._problems.append(Problem("A008 no-tensors", WEIGHTS_NAME, "LoRA tensors", "none"))
        factors: dict[str, dict[str, tuple[Kind, TensorEntry]]] = {}
        for name, entry in entries.items():
            parsed = parse_tensor_name(name)
            if parsed is None:
                if is_base_copy(name):
                    self.base_copies.append(entry)
                else:
                    self._wrong(stranger(name)[0], name, *stranger(name)[1:])
            elif entry.dtype not in DTYPE_BYTES:
                self._wrong("A016 tensor-dtype", name, " or ".join(DTYPE_BYTES), entry.dtype)
            elif len(entry.shape) != 2 or 0 in entry.shape:
                expected = "two dimensions, none of them 0"
                self._wrong("A017 tensor-shape", name, expected, str(entry.shape))
            elif parsed.side in factors.setdefault(parsed.module, {}):
                self._wrong("A018 duplicate-tensor", name, f"one factor for {parsed.module}", "two")
            else:
                factors[parsed.module][parsed.side] = (parsed.kind, entry)
        if entries and not factors and not self._problems:
            self._problems.append(
                Problem("A008 no-tensors", WEIGHTS_NAME, "LoRA tensors", "copies of the base only")
            )
        pairs = (self._pair(name, factors[name]) for name in sorted(factors))
        return {pair.name: pair for pair in pairs if pair is not None}

    def _pair(self, name: str, sides: dict[str, tuple[Kind, TensorEntry]]) -> FactorPair | None:
        if not sides:
            self._wrong("A019 pair-incomplete", name, "a usable pair", "none")
            return None
        kind, present = next(iter(sides.values()))
        names = dict(zip("ab", tensor_names(name, kind), strict=True))
        for side in "ab":
            if side not in sides or sides[side][0] != kind:
                expected = f"{names[side]} beside {present.name}"
                self._wrong("A019 pair-incomplete", names[side], expected, "nothing")
                return None
        a, b = sides["a"][1], sides["b"][1]
        if a.shape[0] != b.shape[1]:
            expected = f"rank {a.shape[0]}, as lora_A {a.shape} has"
            found = f"rank {b.shape[1]} in shape {b.shape}"
            self._wrong("A020 pair-mismatch", b.name, expected, found)
            return None
        return FactorPair(name, kind, a, b)

    def modules(
        self, pairs: Mapping[str, FactorPair], config: AdapterConfig
    ) -> dict[str, LoraModule]:
        """Return the pairs that have the rank that the config gives them, with their scale."""
        modules: dict[str, LoraModule] = {}
        deadline = time.monotonic() + _MATCHING_SECONDS
        for name, pair in pairs.items():
            if time.monotonic() > deadline:
                found = f"{len(pairs)} modules under patterns that take too long to match"
                self._problems.append(
                    Problem("A015 config-pattern", CONFIG_NAME, "simple patterns", found)
                )
                break
            scale = config.module(name)
            if pair.rank == scale.rank:
                modules[name] = LoraModule(
                    name, pair.kind, pair.rank, pair.d_in, pair.d_out, scale.scale, pair.a, pair.b
                )
            else:
                expected = f"rank {scale.rank}, as {CONFIG_NAME} says"
                found = f"rank {pair.rank} in shape {pair.a.shape}"
                self._wrong("A021 rank-mismatch", pair.a.name, expected, found)
        return modules


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
