"""`adapter_config.json`: what its keys mean, which are refused, and the form weft writes.

The only place that knows alpha, rsLoRA and the rank and alpha patterns.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeGuard, TypeVar

from merge.peft_format.problems import FormatError, Problem, brief

MAX_CONFIG_BYTES = 2**20
# Keys that do not change what the stored factors compute (PEFT 0.21 and older).
_HARMLESS = frozenset(
    """
    alpha_pattern arrow_config auto_mapping base_model_name_or_path bias corda_config
    ensure_weight_tying eva_config exclude_modules fan_in_fan_out inference_mode init_lora_weights
    layers_pattern layers_to_transform loftq_config lora_alpha lora_dropout lora_ga_config
    megatron_config megatron_core merge_weights peft_type peft_version qalora_group_size r
    rank_pattern revision runtime_config target_modules task_type use_rslora
    """.split()
)
# Initialisations that leave the base alone; the others (PiSSA, OLoRA, LoftQ, CorDA …) change it.
_PLAIN_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica", "lora_ga"})
# PEFT treats pattern keys as regular expressions. Quantifiers, above all behind a group, and chains
# of groups with alternatives can take exponential time, and the file is a stranger's: keys with
# many of them, long keys and unknown characters are refused, and so are many such keys.
_SAFE_PATTERN = re.compile(r"(?!.*\)[*+?{])[A-Za-z0-9_.*+?|()\[\]^$\\-]{1,200}\Z")
_MAX_BRANCHES = 2
_MAX_BRANCHING_KEYS = 16
_MAX_KEYS = 4096  # one for each module of the largest models, and to spare
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ModuleScale:
    """What the config says of one module: rank, alpha and the multiplier of `b @ a`."""

    rank: int
    alpha: float
    scale: float


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """The part of a PEFT LoRA config that carries meaning for a served adapter."""

    r: int
    alpha: float
    use_rslora: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    base: str | None

    def module(self, name: str) -> ModuleScale:
        """Return rank, alpha and scale of a module, by PEFT's rule (first matching key wins).

        Scale is alpha / rank, or alpha / √rank with rsLoRA (arXiv 2312.03732).
        """
        rank = _look_up(self.rank_pattern, name, self.r)
        alpha = _look_up(self.alpha_pattern, name, self.alpha)
        return ModuleScale(rank, alpha, alpha / (math.sqrt(rank) if self.use_rslora else rank))

    def normalised(self, modules: Iterable[str]) -> "AdapterConfig":
        """Return the one config that gives every module the same rank and alpha as this one.

        Patterns hold full module names only; `r` is the largest rank that occurs.
        """
        scales = {name: self.module(name) for name in sorted(modules)}
        top = max(scales.values(), key=lambda scale: scale.rank)
        return AdapterConfig(
            r=top.rank,
            alpha=top.alpha,
            use_rslora=self.use_rslora,
            rank_pattern={n: s.rank for n, s in scales.items() if s.rank != top.rank},
            alpha_pattern={n: s.alpha for n, s in scales.items() if s.alpha != top.alpha},
            base=self.base,
        )

    def dump(self, modules: Iterable[str]) -> bytes:
        """Return the file that weft writes: canonical JSON that PEFT and vLLM load."""
        names = sorted(modules)
        document = {
            "alpha_pattern": {_key(n, names): _number(a) for n, a in self.alpha_pattern.items()},
            "base_model_name_or_path": self.base,
            "bias": "none",
            "inference_mode": True,
            "lora_alpha": _number(self.alpha),
            "lora_dropout": 0.0,
            "peft_type": "LORA",
            "r": self.r,
            "rank_pattern": {_key(n, names): rank for n, rank in self.rank_pattern.items()},
            "target_modules": names,
            "task_type": "CAUSAL_LM",
            "use_rslora": self.use_rslora,
        }
        return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()


def _key(name: str, names: Iterable[str]) -> str:
    """Return the pattern key that means module `name` and no other.

    Keys are regular expressions, so dots are escaped; and they match at any dot of a longer name,
    so a name that ends another is anchored.
    """
    ends_another = any(other.endswith(f".{name}") for other in names)
    return ("^" if ends_another else "") + re.escape(name)


def _number(value: float) -> int | float:
    """16 rather than 16.0, as PEFT itself writes it; equal numbers get equal bytes."""
    return int(value) if value == int(value) else value


def _look_up(pattern: Mapping[str, _T], name: str, default: _T) -> _T:
    for key, value in pattern.items():
        if _compiled(key).match(name):
            return value
    return default


@lru_cache(maxsize=2**14)  # a normal form may name each of a thousand modules
def _compiled(key: str) -> re.Pattern[str]:
    return re.compile(rf"(.*\.)?({key})$")


def read_config(path: Path) -> AdapterConfig:
    """Read and check an `adapter_config.json`.

    Raises:
        FormatError: with every problem of the file.
        OSError: the file cannot be read.
    """
    document = _load(path)
    problems = _Problems(path.name)
    _check_kind(document, problems)
    _check_unsupported(document, problems)
    r = document.get("r")
    if not _is_rank(r):
        problems.add("A012 config-rank", "r: a positive integer", r)
    alpha = document.get("lora_alpha")
    if not _is_alpha(alpha):
        problems.add("A013 config-alpha", "lora_alpha: a positive number, always stated", alpha)
    ranks = _pattern(document, "rank_pattern", problems)
    alphas = _pattern(document, "alpha_pattern", problems)
    base = document.get("base_model_name_or_path")
    if problems.found or not _is_rank(r) or not _is_alpha(alpha):
        raise FormatError(problems.found)
    return AdapterConfig(
        r=r,
        alpha=float(alpha),
        use_rslora=document.get("use_rslora") is True,
        rank_pattern={key: int(value) for key, value in ranks.items()},
        alpha_pattern=alphas,
        base=base if isinstance(base, str) and base else None,
    )


class _Problems:
    def __init__(self, file: str) -> None:
        self._file = file
        self.found: list[Problem] = []

    def add(self, code: str, expected: str, found: object) -> None:
        self.found.append(Problem(code, self._file, expected, brief(found)))


def _load(path: Path) -> dict[str, object]:
    problems = _Problems(path.name)
    size = path.stat().st_size
    if size > MAX_CONFIG_BYTES:
        problems.add("A010 config-invalid", f"at most {MAX_CONFIG_BYTES} bytes", size)
        raise FormatError(problems.found)
    raw = path.read_bytes()
    if raw.startswith(b"version https://git-lfs"):
        problems.add("A004 lfs-pointer", "a JSON config", "a Git LFS pointer")
        raise FormatError(problems.found)
    try:
        document = json.loads(raw.decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, ValueError) as error:
        problems.add("A010 config-invalid", "a JSON object in UTF-8", str(error))
        raise FormatError(problems.found) from error
    if not isinstance(document, dict):
        problems.add("A010 config-invalid", "a JSON object", document)
        raise FormatError(problems.found)
    return document


def _check_kind(document: dict[str, object], problems: _Problems) -> None:
    if document.get("peft_type") != "LORA":
        problems.add("A011 not-lora", 'peft_type: "LORA"', document.get("peft_type"))
    if document.get("bias", "none") != "none":
        problems.add("A014 unsupported-feature", 'bias: "none"', document["bias"])
    if not isinstance(document.get("use_rslora") or False, bool):
        problems.add("A010 config-invalid", "use_rslora: true or false", document["use_rslora"])


def _check_unsupported(document: dict[str, object], problems: _Problems) -> None:
    init = document.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in _PLAIN_INITS:
        expected = "init_lora_weights that leaves the base unchanged"
        problems.add("A014 unsupported-feature", expected, init)
    for key in sorted(document.keys() - _HARMLESS):
        if document[key]:  # null, false and empty say nothing
            problems.add("A014 unsupported-feature", f"{key[:80]}: null", document[key])


def _pattern(document: dict[str, object], key: str, problems: _Problems) -> dict[str, float]:
    value = document.get(key) or {}
    good = _is_rank if key == "rank_pattern" else _is_alpha
    if not isinstance(value, dict) or not all(good(item) for item in value.values()):
        problems.add("A015 config-pattern", f"{key}: module names with positive numbers", value)
        return {}
    branching = sum(any(char in name for char in "*+?(|[") for name in value)
    if len(value) > _MAX_KEYS or branching > _MAX_BRANCHING_KEYS:
        problems.add("A015 config-pattern", f"{key}: module names, few patterns", len(value))
        return {}
    for name in value:
        if not _SAFE_PATTERN.match(name) or sum(map(name.count, "*+?(")) > _MAX_BRANCHES:
            problems.add(
                "A015 config-pattern", f"{key}: plain module names or simple patterns", name
            )
            return {}
        try:
            re.compile(name)
        except re.error as error:
            problems.add("A015 config-pattern", f"{key}: a valid pattern ({error})", name)
            return {}
    return value


def _is_rank(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**16


def _is_alpha(value: object) -> TypeGuard[float]:
    # NaN and infinity fail the comparison.
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9
