"""The fields of a job's options: one for each, by its type, with its meaning.

An option is sent only if it was changed: what is left alone keeps the server's default.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from nicegui import ui

from server.console.api.job_options import JobOption
from server.console.parts.text import plain

Value: TypeAlias = Any
FIRST = ("k",)  # the options that are shown without unfolding the others


class OptionNotReadable(ValueError):
    """A field holds what cannot be sent as a value of its option."""


@dataclass(frozen=True, slots=True)
class OptionField:
    """The field of an option; `value` is what it holds now, in the API's form."""

    option: JobOption
    read: Callable[[], object]

    @property
    def value(self) -> Value:
        """Return the value in the API's form.

        Raises:
            OptionNotReadable: the text does not have the option's type.
        """
        return value_of(self.option, self.read())

    @property
    def changed(self) -> bool:
        """Return whether the value is not the default."""
        return bool(self.value != self.option.default)


def value_of(option: JobOption, entered: object) -> Value:
    """Return what was entered in the API's form; an empty field is the default.

    The server checks values: here, text becomes JSON of the option's type where it can.

    Raises:
        OptionNotReadable: a list or an object that is none.
    """
    if not isinstance(entered, str):
        return entered
    text = entered.strip()
    if not text:
        return option.default
    match option.type:
        case "integer" | "number":
            return _number(text)
        case "list":
            return [_number(part.strip()) for part in text.split(",")]
        case "object":
            return _object(option, text)
    return text


def text_of(option: JobOption) -> str:
    """Return an option's default as its field shows it."""
    default = option.default
    if default is None:
        return ""
    if isinstance(default, list):
        return ", ".join(map(str, default))
    return json.dumps(default) if isinstance(default, dict) else str(default)


def changed_values(fields: list[OptionField]) -> dict[str, Value]:
    """Return the values that are not their defaults, by option.

    Raises:
        OptionNotReadable: a field holds no value of its option.
    """
    return {field.option.name: field.value for field in fields if field.changed}


def draw_option(option: JobOption) -> OptionField:
    """Draw the field of an option."""
    label = plain(option.name, 60)
    with ui.column().classes("gap-0 w-full"):
        if option.type == "boolean":
            switch = ui.switch(label, value=bool(option.default))
            field: Any = switch
        elif option.type == "choice":
            field = ui.select(option.choices, label=label, value=option.default)
        else:
            field = ui.input(label, value=text_of(option))
        field.classes("w-full").mark(f"option-{option.name}").props["aria-description"] = plain(
            option.meaning
        )
        accepts = "" if option.type == "boolean" else f" ({option.accepts})"
        ui.label(plain(f"{option.meaning}{accepts}", 400)).classes("text-xs opacity-80 weft-text")
    return OptionField(option, lambda: field.value)


def _number(text: str) -> Value:
    """Return a number, or the text: a word that is accepted, or what the server will refuse."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _object(option: JobOption, text: str) -> Value:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise OptionNotReadable(
            f'{option.name}: expected an object such as {{"density": 0.2}}, and it is no JSON: '
            f"{error}"
        ) from error
    if not isinstance(value, dict):
        raise OptionNotReadable(
            f'{option.name}: expected an object such as {{"density": 0.2}}, not {text:.80}'
        )
    return value
