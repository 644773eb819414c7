"""The served base in the registry: found by name, or added from its `config.json`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from registry.admission.tokenizer import read_tokenizer
from registry.bases import (
    LLAMA_31_8B_INSTRUCT,
    architecture_of,
    base_key,
    base_keys,
)
from registry.errors import UnknownBase
from registry.service import Registry
from registry.types import Base
from server.base_shapes import base_shapes
from server.settings import Settings


class BaseUnreadable(Exception):
    """The base's `config.json` cannot be read."""


def served_base(settings: Settings) -> Base:
    """Return the base that the settings name, with the shapes of its modules.

    A Hub id is a spelling of the base beside the name that clients use. The default base is built
    in; any other is read from its `config.json`.

    Raises:
        BaseUnreadable: there is no config to learn the modules' shapes from.
        registry.errors.BaseConfigInvalid: an architecture that weft does not know.
    """
    is_folder = Path(settings.model).is_dir()
    keys = base_keys(settings.served_base, () if is_folder else (settings.model,))
    if not is_folder and base_key(settings.model) in LLAMA_31_8B_INSTRUCT.keys:
        return replace(LLAMA_31_8B_INSTRUCT, name=settings.served_base, keys=keys)
    config = read_model_config(settings.model)
    template = read_tokenizer(Path(settings.model)).chat_template if is_folder else None
    return Base(settings.served_base, architecture_of(config), base_shapes(config), keys, template)


def ensure_base(registry: Registry, settings: Settings) -> Base:
    """Return the served base, adding it to the registry when it is not there yet.

    A local folder is registered under the name clients use for it; a Hub id also under itself,
    unless that is another base's spelling.

    Raises:
        BaseUnreadable, registry.errors.BaseConfigInvalid: as `served_base`.
        registry.errors.BaseConflict: the name stands for a model of other shapes.
    """
    if not Path(settings.model).is_dir():
        try:
            return registry.bases.get(settings.served_base)
        except UnknownBase:
            pass  # the Hub is asked only for what is not known
    base = served_base(settings)
    known = frozenset(key for other in registry.bases.list() for key in other.keys)
    return registry.bases.add(
        base.name, shapes=base.shapes, aliases=base.keys - known, architecture=base.architecture,
        chat_template=base.chat_template,
    )  # fmt: skip


def read_model_config(model: str) -> dict[str, Any]:
    """Return the `config.json` of a local folder or of a Hub repository.

    Raises:
        BaseUnreadable: with the reason.
    """
    path = Path(model) / "config.json"
    try:
        if not path.is_file():
            from huggingface_hub import hf_hub_download

            path = Path(hf_hub_download(model, "config.json"))
        config: dict[str, Any] = json.loads(path.read_text())
    except Exception as error:  # the Hub's client raises errors of many kinds
        raise BaseUnreadable(f"no config.json for {model}: {error}") from error
    return config
