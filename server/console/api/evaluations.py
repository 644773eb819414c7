"""Evaluations of versions of adapters and compositions."""

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from server.console.api.client import Api
from server.console.api.errors import Refused

_REFERENCE = re.compile(r"[a-z][a-z0-9._/-]*(@[a-z0-9._-]+)?")
_NOT_FOUND = 404
_KINDS: tuple[Literal["adapters", "compositions"], ...] = ("adapters", "compositions")


@dataclass(frozen=True, slots=True)
class Version:
    """A version of an adapter or of a composition."""

    kind: Literal["adapters", "compositions"]
    name: str
    number: int

    @property
    def reference(self) -> str:
        """How a request names it."""
        return f"{self.name}@{self.number}"


class _Named(BaseModel):
    number: int
    aliases: dict[str, int]


async def version_of(api: Api, model: str) -> Version | None:
    """Return the version that a model names now; None for a base, an expression or a digest.

    Raises:
        Refused: other than that nothing has the name.
    """
    if not _REFERENCE.fullmatch(model):
        return None
    name, _, which = model.partition("@")
    for kind in _KINDS:
        try:
            named = await api.get(_Named, kind, name)
        except Refused as error:
            if error.status == _NOT_FOUND:
                continue
            raise
        if not which:
            return Version(kind, name, named.number)
        number = int(which) if which.isdigit() else named.aliases.get(which)
        return None if number is None else Version(kind, name, number)
    return None


async def record(
    api: Api, version: Version, *, dataset: str, metric: str, value: float, n: int
) -> None:
    """Record a measured value of a version; `n` is the number of examples."""
    asked = {"dataset": dataset, "metric": metric, "value": value, "n": n}
    path = (version.kind, version.name, "-", "versions", version.number, "evaluations")
    await api.do("POST", *path, json=asked)
