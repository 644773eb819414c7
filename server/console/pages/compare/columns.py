"""The columns of a comparison: what each asks, and how the page's address names them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from server.console.pages.compare.prompts import Message

MAX_COLUMNS = 6
Columns: TypeAlias = "tuple[Column, ...]"


@dataclass(frozen=True, slots=True)
class Column:
    """One model of a comparison: a base, a reference, an expression or a digest."""

    model: str
    title: str = ""  # in place of the model, such as a candidate's

    @property
    def name(self) -> str:
        """What the page calls it."""
        return self.title or self.model

    def request(self, messages: Sequence[Message], max_tokens: int) -> dict[str, object]:
        """Return the body of the request: a stream with its usage, without chance in the answer."""
        return {
            "model": self.model, "messages": list(messages), "max_tokens": max_tokens,
            "temperature": 0, "stream": True, "stream_options": {"include_usage": True},
        }  # fmt: skip


def add_column(columns: Columns, column: Column) -> Columns:
    """Return the columns with one more; a model is there once, and there are six at most."""
    known = {have.model for have in columns}
    if not column.model or column.model in known or len(columns) >= MAX_COLUMNS:
        return columns
    return (*columns, column)


def columns_of(models: Iterable[str]) -> Columns:
    """Return the columns of some models, in order."""
    columns: Columns = ()
    for model in models:
        columns = add_column(columns, Column(model.strip()))
    return columns


def parameters_of(columns: Columns) -> dict[str, str]:
    """Return the parameters of the page's address that `read_parameters` reads."""
    parameters = {}
    for place, column in enumerate(columns):
        parameters[_parameter("model", place)] = column.model
        if column.title:
            parameters[_parameter("title", place)] = column.title
    return parameters


def read_parameters(parameters: Mapping[str, str]) -> Columns:
    """Return the columns that the page's address names: `model`, `model2`, … `model6`."""
    columns: Columns = ()
    for place in range(MAX_COLUMNS):
        model = parameters.get(_parameter("model", place), "").strip()
        title = parameters.get(_parameter("title", place), "")
        columns = add_column(columns, Column(model, title))
    return columns


def _parameter(kind: str, place: int) -> str:
    return kind if place == 0 else f"{kind}{place + 1}"
