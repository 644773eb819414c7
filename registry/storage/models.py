"""The tables and their constraints. Every constraint has a name, which errors refer to.

The names of adapters, compositions and bases share one table, so a `model` string is unambiguous.
Rows of versions, artifacts and alias moves are never removed, recipes and entries of the audit log
by `registry.upkeep.retention` alone. Tables of files and jobs are in `registry.storage.job_models`,
policies in `registry.storage.policy_models`, and `registry.types` has the values that callers
receive.
"""

from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    false,
    literal_column,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship, synonym

from registry.callers import Role
from registry.storage import (  # noqa: F401 - register their tables
    changes,
    job_models,
    policy_models,
    usage_models,
)  # fmt: skip
from registry.storage.columns import Table as Table  # noqa: PLC0414 - a re-export
from registry.storage.columns import VectorType
from registry.types import EmbeddingKind, NameKind, Status, Visibility

_QUARANTINED: ColumnElement[bool] = literal_column("status = 'quarantined'")
_NAME_LENGTH = 200
_DIGEST_LENGTH = 64
_TAG_LENGTH = 60
MAX_ENDING = 500  # of a module's name; a longer one is found by a shorter ending only
_ENCODER_LENGTH = 300  # an encoder may contain the name of a base
# The columns that searches filter by: with this index they do not read the rows' long JSON.
_FOUND_BY = ("name", "number", "status", "retired_at", "base", "rank", "created_at")


class NameRow(Table):
    """A name and the kind of object that it belongs to."""

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
    """One key of a base (`registry.bases.base_key`); its own name has a row as well."""

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
    """One version of an adapter; `modules` maps each module to the fields of `ModuleFacts`."""

    __tablename__ = "adapter_versions"
    __table_args__ = (
        UniqueConstraint("name", "number"),
        UniqueConstraint("name", "digest"),
        Index(None, "digest"),
        Index(
            "ix_adapter_versions_quarantined",
            "digest",
            sqlite_where=_QUARANTINED,
            postgresql_where=_QUARANTINED,
        ),
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
    # These columns are long, and requests do not use them: a query loads them explicitly.
    card: Mapped[str | None] = mapped_column(Text, deferred=True, deferred_raiseload=True)
    report: Mapped[dict[str, Any]] = mapped_column(deferred=True, deferred_raiseload=True)


class VersionModulesRow(Table):
    """The set of modules that a version updates; see `registry.versions.modules`."""

    __tablename__ = "version_modules"

    version_id: Mapped[int] = mapped_column(ForeignKey("adapter_versions.id"), primary_key=True)
    module_set: Mapped[str] = mapped_column(String(_DIGEST_LENGTH))


class ModuleEndingRow(Table):
    """One ending of a module's name in a set of modules, in lower case."""

    __tablename__ = "module_endings"

    module_set: Mapped[str] = mapped_column(String(_DIGEST_LENGTH), primary_key=True)
    ending: Mapped[str] = mapped_column(String(MAX_ENDING), primary_key=True, index=True)


class ImportRow(Table):
    """The outcome of importing a source under a name: the digest of a version, or the problems.

    `conditions` is a hash of everything except the files that affects the outcome; see
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
    """One example of a text that users send to an adapter."""

    __tablename__ = "adapter_examples"

    name: Mapped[str] = mapped_column(ForeignKey("adapters.name"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Text)


class EmbeddingRow(Table):
    """The embedding of a version by one encoder: a unit vector or zero, with its revision.

    On PostgreSQL, migrations create HNSW indexes for the common kinds and dimensions
    (`ix_embeddings_<kind>_<dim>`); this metadata does not contain them. Other vectors are scanned.
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
    """A single row with the revision: the number of changes that can affect a search."""

    __tablename__ = "revision"
    __table_args__ = (CheckConstraint("id = 1", name="one"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger)


class CompositionVersionRow(_VersionColumns, Table):
    """One version of a composition: a recipe and the expression that it was parsed from."""

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
    """An alias of an adapter or a composition, and the number of its version."""

    __tablename__ = "aliases"

    name: Mapped[str] = mapped_column(ForeignKey("names.name"), primary_key=True)
    alias: Mapped[str] = mapped_column(String(_NAME_LENGTH), primary_key=True)
    number: Mapped[int]
    moved_at: Mapped[datetime]
    moved_by: Mapped[str] = mapped_column(Text)


class AliasMoveRow(Table):
    """One move of an alias; `from_number` is null in the first move."""

    __tablename__ = "alias_moves"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(ForeignKey("names.name"), index=True)
    alias: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    from_number: Mapped[int | None]
    to_number: Mapped[int]
    moved_at: Mapped[datetime]
    moved_by: Mapped[str] = mapped_column(Text)


class ArtifactRow(Table):
    """A merged adapter that was built at least once; its files may have been removed."""

    __tablename__ = "artifacts"

    digest: Mapped[str] = mapped_column(String(_DIGEST_LENGTH), primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float] = mapped_column(Double)
    report: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class RecipeRow(Table):
    """A recipe: its canonical text, which is not interpreted here, and its first artifact."""

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
    """One ingredient of a recipe, by digest; several names may share the digest."""

    __tablename__ = "recipe_ingredients"

    recipe_digest: Mapped[str] = mapped_column(ForeignKey("recipes.digest"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(_DIGEST_LENGTH), index=True)
    weight: Mapped[float] = mapped_column(Double)


class LineageRow(Table):
    """A content and one content that it was made of, directly or through other merges.

    The table is transitive: it has a row for every pair (`registry.versions.lineage_queries`).
    """

    __tablename__ = "lineage"

    digest: Mapped[str] = mapped_column(String(_DIGEST_LENGTH), primary_key=True)
    ancestor: Mapped[str] = mapped_column(String(_DIGEST_LENGTH), primary_key=True, index=True)


class ApiKeyRow(Table):
    """An API key by its SHA-256. Without a namespace it has rights to all of them, or to none.

    `limits` has the fields of `registry.callers.KeyLimits`; `revision` counts the row's changes.
    """

    __tablename__ = "api_keys"
    __table_args__ = (
        UniqueConstraint("name"),
        UniqueConstraint("digest"),
        CheckConstraint("role IN ('read', 'chat', 'publish', 'admin')", name="role"),
        CheckConstraint("namespace IS NULL OR NOT all_namespaces", name="scope"),
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
    all_namespaces: Mapped[bool] = mapped_column(server_default=false())
    limits: Mapped[dict[str, Any] | None]
    revision: Mapped[int] = mapped_column(server_default="1")


class EvaluationRow(Table):
    """One metric value of a version of an adapter or a composition."""

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
    """One entry of the audit log; `namespace` is the namespace of the subject."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(String(60))
    subject: Mapped[str] = mapped_column(String(300), index=True)
    namespace: Mapped[str | None] = mapped_column(String(_NAME_LENGTH), index=True)
    detail: Mapped[dict[str, Any]]
