"""What the registry keeps on disk: imports with their findings, artifacts, garbage."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from server.console.api.client import Api, PageOf

ImportOutcome = Literal["admitted", "refused"]
_COLLECT_SECONDS = 600.0


class Finding(BaseModel):
    """A finding of admission."""

    severity: str
    code: str
    file: str
    tensor: str | None
    expected: str
    found: str


class Import(BaseModel):
    """An import. A refused one has no reference: only its problems, as sentences."""

    reference: str | None
    name: str
    source: str | None
    digest: str | None
    status: str | None
    findings: list[Finding]
    problems: list[str]
    at: datetime
    by: str


class RecipeOfArtifact(BaseModel):
    """A recipe that makes an artifact."""

    digest: str
    text: str
    compositions: list[str]


class Artifact(BaseModel):
    """A merged adapter."""

    digest: str
    bytes: int
    seconds: float
    created_at: datetime
    recipes: list[RecipeOfArtifact]
    on_disk: bool


class CanaryFailure(BaseModel):
    """A prompt of the canary that was not answered as expected."""

    number: int
    expected: str
    answer: str


class Canary(BaseModel):
    """The newest result of the server's canary."""

    asked: int
    passed: bool
    failures: list[CanaryFailure]
    seconds: float
    created_at: datetime


class ArtifactDetail(Artifact):
    """An artifact with the report of its merge."""

    report: dict[str, Any]
    canary: Canary | None


class Garbage(BaseModel):
    """A folder that can be removed."""

    store: str
    digest: str
    bytes: int
    idle_seconds: float
    reason: str


class Collected(BaseModel):
    """What a collection removed."""

    bytes_removed: int
    rows_removed: int
    job_folders_removed: int


async def imports(api: Api, outcome: ImportOutcome, cursor: str | None = None) -> PageOf[Import]:
    """Return a page of imports, newest first."""
    return await api.page(Import, "imports", cursor=cursor, query={"outcome": outcome})


async def artifacts(api: Api, cursor: str | None = None) -> PageOf[Artifact]:
    """Return a page of artifacts, by digest."""
    return await api.page(Artifact, "artifacts", cursor=cursor)


async def artifact(api: Api, digest: str) -> ArtifactDetail:
    """Return an artifact."""
    return await api.get(ArtifactDetail, "artifacts", digest)


async def remove_artifact(api: Api, digest: str) -> None:
    """Remove an artifact from the engines, the disk and the object store."""
    await api.do("DELETE", "artifacts", digest)


async def garbage(api: Api, grace_days: str, cursor: str | None = None) -> PageOf[Garbage]:
    """Return a page of what can be removed."""
    return await api.page(Garbage, "garbage", cursor=cursor, query={"grace_days": grace_days})


async def collect(api: Api, grace_days: str) -> Collected:
    """Remove what can be removed."""
    return await api.send(
        Collected, "POST", "garbage", "collect", query={"grace_days": grace_days},
        seconds=_COLLECT_SECONDS,
    )  # fmt: skip
