"""Settings from a TOML file: the one that WEFT_CONFIG names, or else `weft.toml` in the home.

Flags override the environment, the environment overrides the file, the file overrides the defaults.
"""

import os
import tomllib
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings.sources import PydanticBaseSettingsSource

CONFIG_NAME = "weft.toml"


class ConfigInvalid(ValueError):
    """A file of settings that cannot be read, or has a key that is no setting."""


class ConfigFile(PydanticBaseSettingsSource):
    """The source of settings below flags and environment.

    The flags and variables that come before it say which file it is: `config`, or else `home`.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Not used: the file is read as a whole."""
        del field
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the settings of the file.

        Raises:
            ConfigInvalid: it does not exist, is not TOML, or a key is not a setting.
        """
        state = self.current_state
        named = state.get("config")
        home = Path(state.get("home") or self.settings_cls.model_fields["home"].default)
        path = Path(named) if named else home / CONFIG_NAME
        if not named and not path.is_file():
            return {}
        values = read_config(path, self.settings_cls.model_fields)
        if not named and "home" in values:
            raise ConfigInvalid(
                f"{path} is in the home, so it cannot set `home`: set WEFT_HOME, or name a file "
                "outside the home with WEFT_CONFIG"
            )
        return values


def read_config(path: Path, known: Iterable[str]) -> dict[str, Any]:
    """Return the settings in `path`; `known` are the names that it may have.

    Raises:
        ConfigInvalid: it does not exist, is not TOML, or a key is not a setting.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"the file of settings {path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigInvalid(f"{path} is not TOML: {error}") from error
    names = set(known) - {"config"}
    for name in values:
        if name not in names:
            raise ConfigInvalid(f"{path}: {name} is not a setting of weft{_hint(name, names)}")
    return values


def _hint(name: str, names: Iterable[str]) -> str:
    """Name the setting that is meant, also where it is written as its variable."""
    near = get_close_matches(name.lower().removeprefix("weft_"), sorted(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def check_variables(known: Sequence[str]) -> None:
    """Refuse unknown WEFT_* variables, because a misspelt one would have no effect.

    Raises:
        ValueError: with the variable, and the one that may be meant.
    """
    for name in os.environ:
        if name.startswith("WEFT_") and name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"the variable {name} is not a setting of weft{hint}")
