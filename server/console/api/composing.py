"""Compositions: the merge methods, what a composition means, building, saving, publishing."""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel

from server.console.api.client import Api

BUILD_SECONDS = 900.0  # a merge may wait for others, and take minutes itself


class MethodOption(BaseModel):
    """An option of a merge method: what it means and what it accepts."""

    name: str
    type: Literal["integer", "number", "boolean", "choice", "text"]
    default: str | bool | int | float | None
    meaning: str
    accepts: str
    choices: list[str]
    words: list[str]  # accepted beside a number
    minimum: float | None
    above_minimum: bool
    maximum: float | None


class Method(BaseModel):
    """A merge method."""

    name: str
    title: str
    source: str
    weights: str
    most_ingredients: int | None
    options: list[MethodOption]


class Part(BaseModel):
    """An ingredient of a composition; `share` is its part of the weighted norms."""

    reference: str
    digest: str
    weight: float
    rank: int
    norm: float
    share: float


class Warned(BaseModel):
    """Something to know before building."""

    code: str
    message: str


class Explanation(BaseModel):
    """What a composition means and would take."""

    kind: Literal["base", "adapter", "merge"]
    base: str
    expression: str | None
    composition: dict[str, object] | None
    recipe: str | None
    artifact: str | None
    rank: int | None
    nbytes: int | None
    memory_bytes: int | None
    seconds: float | None
    ingredients: list[Part]
    cosines: list[list[float | None]]
    warnings: list[Warned]


class Preview(BaseModel):
    """Figures of the ingredients' tensors; `energy[k - 1]` is the share that rank k keeps."""

    ingredients: list[str]
    sign_conflicts: list[list[float | None]]
    rank: int
    energy: list[float]


class Warmed(BaseModel):
    """A composition that is built and in the engine; `seconds` are by stage."""

    artifact: str
    new_slot: bool
    seconds: dict[str, float]


class Saved(BaseModel):
    """A saved version of a composition."""

    name: str
    number: int

    @property
    def reference(self) -> str:
        """How a request names it."""
        return f"{self.name}@{self.number}"


class Build(BaseModel):
    """A build in flight, of this key or for operators of any; `seconds` since it was asked for."""

    recipe: str
    state: Literal["waiting", "running"]
    seconds: float


class _Engines(BaseModel):
    builds: list[Build]


class _Methods(BaseModel):
    methods: list[Method]


class _Published(BaseModel):
    version: Saved


async def methods(api: Api) -> list[Method]:
    """Return the merge methods."""
    return (await api.get(_Methods, "methods")).methods


async def explain(api: Api, model: str | Mapping[str, object]) -> Explanation:
    """Return what an expression or a `composition` object means."""
    asked = {"model" if isinstance(model, str) else "composition": model}
    return await api.send(Explanation, "POST", "explain", json=asked)


async def preview(api: Api, composition: Mapping[str, object]) -> Preview:
    """Return figures of the ingredients of a composition, from their tensors."""
    asked = {"composition": composition}
    return await api.send(Preview, "POST", "explain", "preview", json=asked)


async def warm(api: Api, composition: Mapping[str, object]) -> Warmed:
    """Build a composition and load it into the engine."""
    asked = {"composition": composition}
    return await api.send(Warmed, "POST", "warm", json=asked, seconds=BUILD_SECONDS)


async def builds(api: Api) -> list[Build]:
    """Return the builds in flight."""
    return (await api.get(_Engines, "engines")).builds


async def save(api: Api, name: str, composition: Mapping[str, object]) -> Saved:
    """Save a `composition` object as a version of a composition."""
    asked = {"composition": composition}
    return await api.send(Saved, "POST", "compositions", name, "-", "versions", json=asked)


async def publish(api: Api, saved: Saved, adapter: str, alias: str | None) -> Saved:
    """Merge a saved composition and register the result as a version of an adapter."""
    path = ("compositions", saved.name, "-", "versions", saved.number, "publish")
    asked = {"adapter": adapter, "alias": alias}
    made = await api.send(_Published, "POST", *path, json=asked, seconds=BUILD_SECONDS)
    return made.version
