"""Recipe files: YAML or JSON with adapters by folder or name, before options are decided.

Covered: reading the file and every check that needs no adapters; each error names the file and the
key. Not covered: finding the adapters, and `plan`, which decides the rest.

    method: linear
    adapters:
      - path: legal                     # beside this file; or name: a reference in a registry
        weight: 0.7                     # 1 when left out
        weights: {"*.mlp.*": 0.2}       # in modules by pattern; the last match applies
      - path: ../poet
    options: {rank: 16, scale: match}
    dtype: bfloat16                     # the default
    base: meta-llama/Llama-3.1-8B-Instruct    # default: the base that the adapters' configs name
"""

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from merge.errors import RecipeInvalid, did_you_mean
from merge.methods import find_method
from merge.peft_format.problems import brief
from merge.recipe import OUTPUT_DTYPES
from merge.weights import Patterns, check_weights

SUFFIXES = (".yaml", ".yml", ".json")
DEFAULT_DTYPE = "bfloat16"
_MAX_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class WrittenAdapter:
    """One ingredient of a file: a folder, or a name in a registry; one of the two is None."""

    path: Path | None
    name: str | None
    weight: float
    patterns: Patterns


@dataclass(frozen=True, slots=True)
class WrittenRecipe:
    """A recipe file's content. Options are checked and not yet parsed."""

    method: str
    adapters: tuple[WrittenAdapter, ...]
    options: Mapping[str, object]
    dtype: str
    base: str | None


def read_recipe_file(path: Path) -> WrittenRecipe:
    """Return the file's content; relative folders are relative to the file.

    Raises:
        RecipeInvalid: the message names the file, the key, the expected and the actual value.
        OSError: the file cannot be read.
    """
    try:
        return _recipe(_load(path), path.parent)
    except RecipeInvalid as error:
        raise RecipeInvalid(f"{path.name}: {error}") from error


def _recipe(document: object, folder: Path) -> WrittenRecipe:
    keys = _mapping(
        document, "the recipe", needs=("method", "adapters"), takes=("options", "dtype", "base")
    )
    method = find_method(_text(keys["method"], "method"))
    written = _list(keys["adapters"], "adapters")
    adapters = tuple(_adapter(x, f"adapters[{i}]", folder) for i, x in enumerate(written))
    check_weights((adapter.weight, adapter.patterns) for adapter in adapters)
    options = _mapping(keys.get("options") or {}, "options")
    method.bind(options)
    dtype = _text(keys.get("dtype", DEFAULT_DTYPE), "dtype")
    if dtype not in OUTPUT_DTYPES:
        raise _wrong("dtype", f"one of {', '.join(OUTPUT_DTYPES)}", dtype)
    base = _text(keys["base"], "base") if "base" in keys else None
    return WrittenRecipe(method.name, adapters, options, dtype, base)


def _adapter(document: object, place: str, folder: Path) -> WrittenAdapter:
    keys = _mapping(document, place, takes=("path", "name", "weight", "weights"))
    if ("path" in keys) == ("name" in keys):
        raise _wrong(place, "one of the keys path and name", sorted(keys))
    patterns = _mapping(keys.get("weights", {}), f"{place}.weights", what="patterns with numbers")
    return WrittenAdapter(
        path=folder / _text(keys["path"], f"{place}.path") if "path" in keys else None,
        name=_text(keys["name"], f"{place}.name") if "name" in keys else None,
        weight=_number(keys.get("weight", 1.0), f"{place}.weight"),
        patterns=tuple((p, _number(w, f"{place}.weights[{p!r}]")) for p, w in patterns.items()),
    )


def _mapping(
    value: object,
    place: str,
    *,
    needs: Sequence[str] = (),
    takes: Sequence[str] = (),
    what: str = "keys with values",
) -> dict[str, object]:
    """Return a mapping with text keys; with `needs` or `takes`, of those keys alone."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise _wrong(place, what, value)
    known = (*needs, *takes)
    for key in value:
        if known and key not in known:
            near = did_you_mean(key, known)
            raise RecipeInvalid(
                f"{place} has no key {key!r:.80}{near}; it takes {', '.join(known)}"
            )
    for key in needs:
        if key not in value:
            raise RecipeInvalid(f"{place}: the key {key} is missing")
    return value


def _list(value: object, place: str) -> list[object]:
    if not isinstance(value, list) or not value:
        raise _wrong(place, "a list of at least one adapter", value)
    return value


def _text(value: object, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(place, "a text", value)
    return value


def _number(value: object, place: str) -> float:
    # Text is accepted, too: YAML 1.1 reads 1e-3, which has no decimal point, as text.
    if not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    raise _wrong(place, "a finite number", value)


def _wrong(place: str, expected: str, found: object) -> RecipeInvalid:
    return RecipeInvalid(f"{place}: expected {expected}, found {brief(found)}")


def _load(path: Path) -> object:
    """Return the file's content: JSON by its suffix, YAML otherwise; no key may occur twice."""
    with path.open("rb") as file:
        raw = file.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise RecipeInvalid(f"expected at most {_MAX_BYTES} bytes: is this a recipe file?")
    try:
        text = raw.decode("utf-8-sig")
        if path.suffix == ".json":
            return json.loads(text, object_pairs_hook=_unique)
        return yaml.load(text, _Loader)  # noqa: S506  # _Loader is a SafeLoader
    except RecipeInvalid:
        raise
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise RecipeInvalid(f"not {kind}: {' '.join(str(error).split())[:300]}") from error


def _unique(pairs: Sequence[tuple[Any, Any]]) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key, value in pairs:
        if key in mapping:
            raise RecipeInvalid(f"the key {brief(key)} occurs twice: remove one")
        mapping[key] = value
    return mapping


class _Loader(yaml.SafeLoader):
    """A SafeLoader that refuses repeated keys, of which YAML would drop all but the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return the mapping of `node`."""
        _unique([(key.value, None) for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
        return super().construct_mapping(node, deep=deep)
