"""Adapters: lists, one adapter, its versions, aliases, examples, evaluations, changes, lineage."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from server.console.api.client import Api, PageOf

MOST = 100  # rows of a list that is shown at once


class Adapter(BaseModel):
    """An adapter, with the fields of its newest version in use."""

    name: str
    visibility: str
    tags: list[str]
    aliases: dict[str, int]
    number: int
    digest: str
    status: str


class Version(BaseModel):
    """A version as a list shows it."""

    number: int
    digest: str
    rank: int
    bytes: int
    norm: float
    status: str
    status_reason: str | None
    created_at: datetime
    created_by: str


class Module(BaseModel):
    """The update of one module."""

    rank: int
    d_in: int
    d_out: int
    alpha: float


class Finding(BaseModel):
    """A finding of admission or of the probe."""

    severity: Literal["note", "warn", "refuse"]
    code: str
    file: str
    tensor: str | None
    expected: str
    found: str


class Facts(BaseModel):
    """What admission measured."""

    norms: dict[str, float] = Field(default_factory=dict)


class Report(BaseModel):
    """The report of admission."""

    findings: list[Finding] = Field(default_factory=list)
    facts: Facts = Facts()


class VersionDetail(Version):
    """A version with its card, its modules and its report."""

    base: str
    source: str | None
    licence: str | None
    dtypes: list[str]
    use_rslora: bool
    peft_version: str | None
    card: str | None
    modules: dict[str, Module]
    report: Report


class Alias(BaseModel):
    """An alias and where it points."""

    alias: str
    number: int
    moved_at: datetime
    moved_by: str


class AliasMove(BaseModel):
    """A move of an alias; `from_number` is None for the first."""

    alias: str
    from_number: int | None
    to_number: int
    moved_at: datetime
    moved_by: str


class Evaluation(BaseModel):
    """A measured value of a version."""

    reference: str
    dataset: str
    metric: str
    value: float
    n: int | None
    measured_at: datetime
    created_by: str

    @property
    def number(self) -> int:
        """The number of the version."""
        return int(self.reference.rpartition("@")[2])


class Change(BaseModel):
    """Who changed what."""

    at: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


class Examples(BaseModel):
    """Requests that describe an adapter."""

    examples: list[str]


class Ingredient(BaseModel):
    """An ingredient of a recipe: its weight, and the versions that have its content."""

    digest: str
    weight: float
    versions: list[str]


class Recipe(BaseModel):
    """A recipe, what it was made of, and what it made."""

    digest: str
    text: str
    artifact: str | None
    ingredients: list[Ingredient]
    compositions: list[str]


class Lineage(BaseModel):
    """The recipes that made a content, and those that use it; `next_cursor` pages the latter."""

    digest: str
    versions: list[str]
    made_by: list[Recipe]
    used_by: list[Recipe]
    next_cursor: str | None


async def adapters(api: Api, cursor: str | None = None) -> PageOf[Adapter]:
    """Return a page of adapters, by name."""
    return await api.page(Adapter, "adapters", cursor=cursor)


async def adapter(api: Api, name: str) -> Adapter:
    """Return an adapter."""
    return await api.get(Adapter, "adapters", name)


async def versions(api: Api, name: str, cursor: str | None = None) -> PageOf[Version]:
    """Return a page of an adapter's versions, newest first."""
    return await api.page(Version, "adapters", name, "-", "versions", cursor=cursor)


async def version(api: Api, name: str, number: int) -> VersionDetail:
    """Return everything about a version."""
    return await api.get(VersionDetail, "adapters", name, "-", "versions", number)


async def aliases(api: Api, name: str) -> list[Alias]:
    """Return the aliases of a name."""
    return (await api.page(Alias, "adapters", name, "-", "aliases", limit=MOST)).items


async def alias_moves(api: Api, name: str, cursor: str | None) -> PageOf[AliasMove]:
    """Return a page of the moves of a name's aliases, newest first."""
    return await api.page(AliasMove, "adapters", name, "-", "alias-moves", cursor=cursor)


async def move_alias(api: Api, name: str, alias: str, number: int) -> None:
    """Point an alias to a version, from the next request on."""
    await api.do("PUT", "adapters", name, "-", "aliases", alias, json={"version": number})


async def evaluations(api: Api, name: str) -> PageOf[Evaluation]:
    """Return the newest evaluations of all versions of a name."""
    return await api.page(Evaluation, "adapters", name, "-", "evaluations", limit=MOST)


async def changes(api: Api, name: str, cursor: str | None) -> PageOf[Change]:
    """Return a page of the changes of an adapter, newest first."""
    return await api.page(Change, "adapters", name, "-", "changes", cursor=cursor)


async def examples(api: Api, name: str) -> list[str]:
    """Return the requests that describe an adapter."""
    return (await api.get(Examples, "adapters", name, "-", "examples")).examples


async def lineage(api: Api, digest: str) -> Lineage:
    """Return what made a content, and what uses it."""
    return await api.get(Lineage, "lineage", digest)
