"""Recipes as documents of plain values: keys, lists, texts and numbers, from YAML or JSON.

Covered: every check that needs no adapters; each error names the place in the document. Not
covered: reading a file (`recipe_file`), finding the adapters, and `plan`, which decides the rest.

    method: linear
    adapters:
      - path: legal                     # a folder; or name: a reference in a registry
        weight: 0.7                     # 1 when left out
        weights: {"*.mlp.*": 0.2}       # in modules by pattern; the last match applies
      - path: ../poet
    options: {rank: 16, scale: match}
    dtype: bfloat16                     # the default
    base: meta-llama/Llama-3.1-8B-Instruct    # default: the base that the adapters' configs name
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from merge.errors import DocumentInvalid, RecipeInvalid, did_you_mean
from merge.methods import find_method
from merge.peft_format.problems import brief
from merge.recipe import OUTPUT_DTYPES
from merge.weights import Patterns, check_weights

DEFAULT_DTYPE = "bfloat16"


@dataclass(frozen=True, slots=True)
class WrittenAdapter:
    """One ingredient: a folder, or a name in a registry; one of the two is None."""

    path: Path | None
    name: str | None
    weight: float
    patterns: Patterns


@dataclass(frozen=True, slots=True)
class WrittenRecipe:
    """A recipe as written. Options are checked and not yet parsed."""

    method: str
    adapters: tuple[WrittenAdapter, ...]
    options: Mapping[str, object]
    dtype: str
    base: str | None


def read_document(
    document: object, *, folder: Path | None, root: str = "", dtype: str = DEFAULT_DTYPE
) -> WrittenRecipe:
    """Return the recipe that a document describes.

    Args:
        document: its value.
        folder: what relative paths of adapters are relative to; None takes names alone.
        root: the place of the document in what it came with, for errors.
        dtype: the default of the key `dtype`.

    Raises:
        DocumentInvalid: the message names the place, the expected and the actual value.
    """
    at = f"{root}." if root else ""
    keys = _mapping(
        document, root or "the recipe", needs=("method", "adapters"),
        takes=("options", "dtype", "base"),
    )  # fmt: skip
    with _inside(root and f"{at}method"):
        method = find_method(_text(keys["method"], f"{at}method"))
    written = _list(keys["adapters"], f"{at}adapters")
    adapters = tuple(_adapter(x, f"{at}adapters[{i}]", folder) for i, x in enumerate(written))
    with _inside(root and f"{at}adapters"):
        check_weights((adapter.weight, adapter.patterns) for adapter in adapters)
    options = _mapping(keys.get("options") or {}, f"{at}options")
    with _inside(root and f"{at}options"):
        method.bind(options)
    dtype = _text(keys.get("dtype", dtype), f"{at}dtype")
    if dtype not in OUTPUT_DTYPES:
        raise _wrong(f"{at}dtype", f"one of {', '.join(OUTPUT_DTYPES)}", dtype)
    base = _text(keys["base"], f"{at}base") if "base" in keys else None
    return WrittenRecipe(method.name, adapters, options, dtype, base)


@contextmanager
def _inside(place: str) -> Iterator[None]:
    """Name the place in errors of a `with` block; a file, whose place is "", has one recipe."""
    try:
        yield
    except DocumentInvalid:
        raise
    except RecipeInvalid as error:
        raise DocumentInvalid(place, str(error)) from error


def _adapter(document: object, place: str, folder: Path | None) -> WrittenAdapter:
    sources = ("name",) if folder is None else ("path", "name")
    keys = _mapping(document, place, takes=(*sources, "weight", "weights"))
    if sum(source in keys for source in sources) != 1:
        one = "the key name" if folder is None else "one of the keys path and name"
        raise _wrong(place, one, sorted(keys))
    patterns = _mapping(keys.get("weights", {}), f"{place}.weights", what="patterns with numbers")
    path = _text(keys["path"], f"{place}.path") if "path" in keys else None
    return WrittenAdapter(
        path=folder / path if folder is not None and path is not None else None,
        name=_text(keys["name"], f"{place}.name") if "name" in keys else None,
        weight=_number(keys.get("weight", 1.0), f"{place}.weight"),
        patterns=tuple((p, _number(w, f"{place}.weights[{p!r:.80}]")) for p, w in patterns.items()),
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
            raise DocumentInvalid(
                place, f"has no key {key!r:.80}{near}; it takes {', '.join(known)}", " "
            )
    for key in needs:
        if key not in value:
            raise DocumentInvalid(place, f"the key {key} is missing")
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


def _wrong(place: str, expected: str, found: object) -> DocumentInvalid:
    return DocumentInvalid(place, f"expected {expected}, found {brief(found)}")
