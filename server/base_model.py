"""The served base in the registry: found by name, or added from its `config.json`."""

import json
from pathlib import Path
from typing import Any

from registry.bases import architecture_of, module_shapes
from registry.errors import UnknownBase
from registry.service import Registry
from registry.types import Base
from server.settings import Settings


class BaseUnreadable(Exception):
    """The base's `config.json` cannot be read."""


def ensure_base(registry: Registry, settings: Settings) -> Base:
    """Return the served base, adding it to the registry when it is not there yet.

    A local folder is registered under the name clients use for it; a Hub id under itself.

    Raises:
        BaseUnreadable: there is no config to learn the modules' shapes from.
        registry.errors.BaseConfigInvalid: an architecture that weft does not know.
        registry.errors.BaseConflict: the name stands for a model of other shapes.
    """
    if not Path(settings.model).is_dir():
        try:
            return registry.bases.get(settings.base_name)
        except UnknownBase:
            pass  # the Hub is asked only for what is not known
    config = read_model_config(settings.model)
    return registry.bases.add(
        settings.base_name, shapes=module_shapes(config), architecture=architecture_of(config)
    )


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
