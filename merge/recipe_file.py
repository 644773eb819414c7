"""Recipe files: YAML or JSON (`recipe_document` has the keys), with adapters by folder or name."""

import json
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

from merge.errors import RecipeInvalid
from merge.peft_format.problems import brief
from merge.recipe_document import WrittenRecipe, read_document

SUFFIXES = (".yaml", ".yml", ".json")
_MAX_BYTES = 2**20


def read_recipe_file(path: Path) -> WrittenRecipe:
    """Return the file's content; relative folders are relative to the file.

    Raises:
        RecipeInvalid: the message names the file, the key, the expected and the actual value.
        OSError: the file cannot be read.
    """
    try:
        return read_document(_load(path), folder=path.parent)
    except RecipeInvalid as error:
        raise RecipeInvalid(f"{path.name}: {error}") from error


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
