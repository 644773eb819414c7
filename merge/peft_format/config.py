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

from merge.peft_format.problems import (
    FETCH_LFS,
    LFS_MARK,
    LFS_POINTER,
    FormatError,
    Problem,
    brief,
)

MAX_CONFIG_BYTES = 2**20
# Keys that do not change what the stored factors compute (PEFT 0.21 and older).
_HARMLESS = frozenset(
    """
    alpha_pattern auto_mapping base_model_name_or_path bias corda_config
    ensure_weight_tying eva_config exclude_modules fan_in_fan_out inference_mode init_lora_weights
    layers_pattern layers_to_transform loftq_config lora_alpha lora_dropout lora_ga_config
    megatron_config megatron_core merge_weights peft_type peft_version qalora_group_size r
    rank_pattern revision runtime_config target_modules task_type use_rslora
    """.split()
)
# Initialisations that leave the base unchanged; the others (LoftQ and those below) change it.
_PLAIN_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica"})
# PEFT 0.21 turns an adapter with one of these (or PiSSA's variants) into a plain LoRA on saving.
_CONVERTIBLE_INITS = ("pissa", "olora", "corda", "lora_ga")
_CONVERT_INIT = (
    "; PEFT writes a plain LoRA with save_pretrained(..., path_initial_model_for_weight_conversion="
    "the folder of the adapter as it was initialised)"
)
_CONVERT_TYPE = (
    "; PEFT converts types that add to the weights (LoHa, LoKr, VeRA …) with save_as_lora of "
    "peft.tuners.lora.conversion"
)
# What to do about a key that is refused, where something can be done.
_CURES = {
    "arrow_config": "; it routes each token to another adapter: import those adapters one by one",
    "use_dora": "; train without DoRA, or merge the adapter into the base",
    "modules_to_save": "; train without it: weft serves low-rank updates only",
    "trainable_token_indices": "; train without it: weft serves low-rank updates only",
}
# PEFT treats pattern keys as regular expressions. Quantifiers, above all behind a group, and chains
# of groups with alternatives can take exponential time, and the file is not trusted: keys with many
# of them, long keys and unknown characters are refused, and so are many such keys.
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


def inspect_config(path: Path) -> tuple[AdapterConfig | None, list[Problem]]:
    """Return the config and every problem of the file.

    The config is there, beside problems such as an unsupported feature, whenever ranks and scales
    are stated, so that the tensors can be examined too.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        document = _load(path)
    except FormatError as error:
        return None, list(error.problems)
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
    if not _is_rank(r) or not _is_alpha(alpha) or ranks is None or alphas is None:
        return None, problems.all
    config = AdapterConfig(
        r=r,
        alpha=float(alpha),
        use_rslora=document.get("use_rslora") is True,
        rank_pattern={key: int(value) for key, value in ranks.items()},
        alpha_pattern=alphas,
        base=base if isinstance(base, str) and base else None,
    )
    return config, problems.all


class _Problems:
    def __init__(self, file: str) -> None:
        self.file = file
        self.all: list[Problem] = []

    def add(self, code: str, expected: str, found: object) -> None:
        self.all.append(Problem(code, self.file, expected, brief(found)))


def _load(path: Path) -> dict[str, object]:
    problems = _Problems(path.name)
    size = path.stat().st_size
    if size > MAX_CONFIG_BYTES:
        problems.add("A010 config-invalid", f"at most {MAX_CONFIG_BYTES} bytes", size)
        raise FormatError(problems.all)
    raw = path.read_bytes()
    if raw.startswith(LFS_MARK):
        problems.add("A004 lfs-pointer", f"a JSON config; {FETCH_LFS}", LFS_POINTER)
        raise FormatError(problems.all)
    try:
        document = json.loads(raw.decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, ValueError) as error:
        problems.add("A010 config-invalid", "a JSON object in UTF-8", str(error))
        raise FormatError(problems.all) from error
    if not isinstance(document, dict):
        problems.add("A010 config-invalid", "a JSON object", document)
        raise FormatError(problems.all)
    return document


def not_lora(file: str, kind: object) -> Problem:
    """Return the problem of a config with another `peft_type`."""
    return Problem("A011 not-lora", file, f'peft_type: "LORA"{_CONVERT_TYPE}', brief(kind))


def _check_kind(document: dict[str, object], problems: _Problems) -> None:
    if document.get("peft_type") != "LORA":
        problems.all.append(not_lora(problems.file, document.get("peft_type")))
    if document.get("bias", "none") != "none":
        problems.add("A014 unsupported-feature", 'bias: "none"', document["bias"])
    if not isinstance(document.get("use_rslora") or False, bool):
        problems.add("A010 config-invalid", "use_rslora: true or false", document["use_rslora"])


def _check_unsupported(document: dict[str, object], problems: _Problems) -> None:
    init = document.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in _PLAIN_INITS:
        cure = _CONVERT_INIT if init.lower().startswith(_CONVERTIBLE_INITS) else ""
        expected = f"init_lora_weights that leaves the base unchanged{cure}"
        problems.add("A014 unsupported-feature", expected, init)
    for key in sorted(document.keys() - _HARMLESS):
        if document[key]:  # null, false and empty mean that the feature is off
            expected = f"{key[:80]}: null{_CURES.get(key, '')}"
            problems.add("A014 unsupported-feature", expected, document[key])


def _pattern(document: dict[str, object], key: str, problems: _Problems) -> dict[str, float] | None:
    value = document.get(key) or {}
    good = _is_rank if key == "rank_pattern" else _is_alpha
    if not isinstance(value, dict) or not all(good(item) for item in value.values()):
        problems.add("A015 config-pattern", f"{key}: module names with positive numbers", value)
        return None
    branching = sum(any(char in name for char in "*+?(|[") for name in value)
    if len(value) > _MAX_KEYS or branching > _MAX_BRANCHING_KEYS:
        problems.add("A015 config-pattern", f"{key}: module names, few patterns", len(value))
        return None
    for name in value:
        if not _SAFE_PATTERN.match(name) or sum(map(name.count, "*+?(")) > _MAX_BRANCHES:
            problems.add(
                "A015 config-pattern", f"{key}: plain module names or simple patterns", name
            )
            return None
        try:
            re.compile(name)
        except re.error as error:
            problems.add("A015 config-pattern", f"{key}: a valid pattern ({error})", name)
            return None
    return value


def _is_rank(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**16


def _is_alpha(value: object) -> TypeGuard[float]:
    # NaN and infinity fail the comparison.
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9
