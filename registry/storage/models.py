"""The tables and their constraints. Every constraint has a name, so that errors can be told apart.

Names of adapters, compositions and bases share one table, so one `model` string never means two
things. Rows of versions, recipes, artifacts and alias moves are only ever added.
Not covered: files and jobs (`registry.storage.job_models`), statements
(`registry.versions.queries`), and what rows look like outside (`registry.types`).
"""

from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship, synonym

from registry.callers import Role
from registry.storage import job_models  # noqa: F401 - whoever knows a table knows them all
from registry.storage.columns import Table as Table  # noqa: PLC0414 - known as one of this module's
from registry.storage.columns import VectorType
from registry.types import EmbeddingKind, NameKind, Status, Visibility

_NAME_LENGTH = 200
_DIGEST_LENGTH = 64
_TAG_LENGTH = 60
_ENCODER_LENGTH = 300  # it may hold the name of a base
# What decides whether a version is found: no row's JSON is read to get at its status.
_FOUND_BY = ("name", "number", "status", "retired_at", "base", "rank", "created_at")


class NameRow(Table):
    """A name and what it belongs to."""

    __tablename__ = "names"
    __table_args__ = (
        CheckConstraint("kind IN ('adapter', 'base', 'composition')", name="kind"),
        CheckConstraint("visibility IN ('private', 'public')", name="visibility"),
        CheckConstraint("visibility = 'public' OR name LIKE '%/%'", name="root"),
    )

    name: Mapped[str] = mapped_column(String(_NAME_LENGTH), primary_key=True)
    kind: Mapped[NameKind] = mapped_column(String(20))
    visibility: Mapped[Visibility] = mapped_column(String(20), server_default="private")
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(Text)


class BaseRow(Table):
    """A base; `shapes` is {module: [d_out, d_in]}."""

    __tablename__ = "bases"

    name: Mapped[str] = mapped_column(ForeignKey("names.name"), primary_key=True)
    architecture: Mapped[str | None] = mapped_column(Text)
    shapes: Mapped[dict[str, Any]]
    chat_template: Mapped[str | None] = mapped_column(String(_DIGEST_LENGTH))
    aliases: Mapped[list["BaseAliasRow"]] = relationship(lazy="raise")


class BaseAliasRow(Table):
    """One spelling of a base, as `registry.bases.base_key` makes it; its own name is among them."""

    __tablename__ = "base_aliases"

    key: Mapped[str] = mapped_column(String(500), primary_key=True)
    base: Mapped[str] = mapped_column(ForeignKey("bases.name"), index=True)


class AdapterRow(Table):
    """An adapter: a name that owns versions."""

    __tablename__ = "adapters"

    name: Mapped[str] = mapped_column(ForeignKey("names.name"), primary_key=True)


class CompositionRow(Table):
    """A composition: a name that owns recipes."""

    __tablename__ = "compositions"

    name: Mapped[str] = mapped_column(ForeignKey("names.name"), primary_key=True)


class _VersionColumns:
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(Text)
    retired_at: Mapped[datetime | None]
    retired_by: Mapped[str | None] = mapped_column(Text)


class AdapterVersionRow(_VersionColumns, Table):
    """One content of an adapter; `modules` is {module: the fields of ModuleFacts}."""

    __tablename__ = "adapter_versions"
    __table_args__ = (
        UniqueConstraint("name", "number"),
        UniqueConstraint("name", "digest"),
        Index(None, "digest"),
        Index("ix_adapter_versions_found", *_FOUND_BY),
        CheckConstraint("number >= 1", name="number"),
        CheckConstraint("status IN ('admitted', 'quarantined')", name="status"),
    )

    name: Mapped[str] = mapped_column(ForeignKey("adapters.name"))
    digest: Mapped[str] = mapped_column(String(_DIGEST_LENGTH))
    content: Mapped[str] = synonym("digest")
    base: Mapped[str] = mapped_column(ForeignKey("bases.name"), index=True)
    base_said: Mapped[str | None] = mapped_column(Text)
    rank: Mapped[int]
    modules: Mapped[dict[str, Any]]
    use_rslora: Mapped[bool]
    dtypes: Mapped[list[str]]
    bytes: Mapped[int] = mapped_column(BigInteger)
    norm: Mapped[float] = mapped_column(Double)
    source: Mapped[str | None] = mapped_column(Text)
    licence: Mapped[str | None] = mapped_column(Text)
    peft_version: Mapped[str | None] = mapped_column(Text)
    lora_dropout: Mapped[float | None] = mapped_column(Double)
    chat_template: Mapped[str | None] = mapped_column(String(_DIGEST_LENGTH))
    status: Mapped[Status] = mapped_column(String(20), server_default="admitted")
    status_reason: Mapped[str | None] = mapped_column(Text)
    # Long, and of no use to a request: loaded where a statement asks for them.
    card: Mapped[str | None] = mapped_column(Text, deferred=True, deferred_raiseload=True)
    report: Mapped[dict[str, Any]] = mapped_column(deferred=True, deferred_raiseload=True)


class ImportRow(Table):
    """What became of one source under one name: a version's digest, or what refused it.

    `conditions` stands for everything that the outcome hung on beside the files: see
    `registry.versions.imports`.
    """

    __tablename__ = "imports"

    source: Mapped[str] = mapped_column(String(500), primary_key=True)
    name: Mapped[str] = mapped_column(String(_NAME_LENGTH), primary_key=True)
    conditions: Mapped[str] = mapped_column(String(_DIGEST_LENGTH))
    digest: Mapped[str | None] = mapped_column(String(_DIGEST_LENGTH))
    problems: Mapped[list[str]]
    finished_at: Mapped[datetime]
    finished_by: Mapped[str] = mapped_column(Text)


class AdapterTagRow(Table):
    """One tag of an adapter."""

    __tablename__ = "adapter_tags"

    name: Mapped[str] = mapped_column(ForeignKey("adapters.name"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(_TAG_LENGTH), primary_key=True, index=True)


class AdapterExampleRow(Table):
    """One example of what an adapter is for: text such as its users send."""

    __tablename__ = "adapter_examples"

    name: Mapped[str] = mapped_column(ForeignKey("adapters.name"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Text)


class EmbeddingRow(Table):
    """A version as a unit vector (or zero), by one encoder; `revision` is when it was written.

    On PostgreSQL the common kinds and dims have HNSW indexes, which the migrations make and this
    metadata does not know (`ix_embeddings_<kind>_<dim>`); others are scanned.
    """

    __tablename__ = "embeddings"
    __table_args__ = (
        Index(None, "kind", "encoder", "revision"),
        CheckConstraint("kind IN ('behaviour', 'text', 'weights')", name="kind"),
        CheckConstraint("dim >= 1", name="dim"),
    )

    version_id: Mapped[int] = mapped_column(ForeignKey("adapter_versions.id"), primary_key=True)
    kind: Mapped[EmbeddingKind] = mapped_column(String(20), primary_key=True)
    encoder: Mapped[str] = mapped_column(String(_ENCODER_LENGTH), primary_key=True)
    dim: Mapped[int]
    vector: Mapped[NDArray[np.float32]] = mapped_column(VectorType())
    revision: Mapped[int] = mapped_column(BigInteger)


class RevisionRow(Table):
    """The one row that counts the changes to what can be found."""

    __tablename__ = "revision"
    __table_args__ = (CheckConstraint("id = 1", name="one"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger)


class CompositionVersionRow(_VersionColumns, Table):
    """One recipe of a composition, with the expression that it came from."""

    __tablename__ = "composition_versions"
    __table_args__ = (
        UniqueConstraint("name", "number"),
        UniqueConstraint("name", "recipe_digest"),
        Index(None, "recipe_digest"),
        CheckConstraint("number >= 1", name="number"),
    )

    name: Mapped[str] = mapped_column(ForeignKey("compositions.name"))
    expression: Mapped[str] = mapped_column(Text)
    recipe_digest: Mapped[str] = mapped_column(ForeignKey("recipes.digest"))
    content: Mapped[str] = synonym("recipe_digest")
    recipe: Mapped["RecipeRow"] = relationship(lazy="raise")


class AliasRow(Table):
    """Where an alias of an adapter or a composition points now."""

    __tablename__ = "aliases"

    name: Mapped[str] = mapped_column(ForeignKey("names.name"), primary_key=True)
    alias: Mapped[str] = mapped_column(String(_NAME_LENGTH), primary_key=True)
    number: Mapped[int]
    moved_at: Mapped[datetime]
    moved_by: Mapped[str] = mapped_column(Text)


class AliasMoveRow(Table):
    """One move of an alias; `from_number` is null for its first."""

    __tablename__ = "alias_moves"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(ForeignKey("names.name"), index=True)
    alias: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    from_number: Mapped[int | None]
    to_number: Mapped[int]
    moved_at: Mapped[datetime]
    moved_by: Mapped[str] = mapped_column(Text)


class ArtifactRow(Table):
    """A merged adapter that was built at least once; its files may be gone again."""

    __tablename__ = "artifacts"

    digest: Mapped[str] = mapped_column(String(_DIGEST_LENGTH), primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float] = mapped_column(Double)
    report: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class RecipeRow(Table):
    """A recipe's canonical text, opaque here, and the artifact that it was first built into."""

    __tablename__ = "recipes"

    digest: Mapped[str] = mapped_column(String(_DIGEST_LENGTH), primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    base: Mapped[str] = mapped_column(ForeignKey("bases.name"))
    artifact: Mapped[str | None] = mapped_column(ForeignKey("artifacts.digest"), index=True)
    created_at: Mapped[datetime]
    ingredients: Mapped[list["RecipeIngredientRow"]] = relationship(
        lazy="raise", order_by="RecipeIngredientRow.position"
    )
    published: Mapped[list["CompositionVersionRow"]] = relationship(
        lazy="raise", order_by="CompositionVersionRow.id", viewonly=True
    )


class RecipeIngredientRow(Table):
    """One ingredient of a recipe, by digest (which several names may share): the lineage."""

    __tablename__ = "recipe_ingredients"

    recipe_digest: Mapped[str] = mapped_column(ForeignKey("recipes.digest"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(_DIGEST_LENGTH), index=True)
    weight: Mapped[float] = mapped_column(Double)


class ApiKeyRow(Table):
    """A key by its SHA-256; `namespace` is null for one whose rights know no namespaces."""

    __tablename__ = "api_keys"
    __table_args__ = (
        UniqueConstraint("name"),
        UniqueConstraint("digest"),
        CheckConstraint("role IN ('read', 'chat', 'publish', 'admin')", name="role"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    digest: Mapped[str] = mapped_column(String(_DIGEST_LENGTH))
    prefix: Mapped[str] = mapped_column(String(20))
    role: Mapped[Role] = mapped_column(String(20))
    namespace: Mapped[str | None] = mapped_column(String(_NAME_LENGTH))
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(Text)
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    revoked_by: Mapped[str | None] = mapped_column(Text)


class EvaluationRow(Table):
    """One number measured of a version of an adapter or a composition."""

    __tablename__ = "evaluations"
    __table_args__ = (Index(None, "name", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(ForeignKey("names.name"))
    number: Mapped[int]
    dataset: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    metric: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    value: Mapped[float] = mapped_column(Double)
    n: Mapped[int | None]
    measured_at: Mapped[datetime]
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(Text)


class AuditRow(Table):
    """One change: who did what to what; `namespace` is the subject's."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(String(60))
    subject: Mapped[str] = mapped_column(String(300), index=True)
    namespace: Mapped[str | None] = mapped_column(String(_NAME_LENGTH), index=True)
    detail: Mapped[dict[str, Any]]
