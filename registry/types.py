"""The values that the registry returns: frozen dataclasses that need no database session.

This module covers bases, adapters, compositions, aliases, admission reports, resolutions and
lineage. It does not cover the text of references (`registry.references`) or the tables
(`registry.storage.models`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from merge.peft_format import AdapterFolder, Problem

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]


Level = Literal["info", "warn", "error"]


EventKind = Literal["message", "metrics", "candidate"]
# The actions of the audit log (`registry.access.audit`).
Action = Literal[
    "adapter.registered", "alias.moved", "artifact.removed", "base.added", "composition.added",
    "evaluation.recorded", "examples.changed", "file.added", "file.removed", "garbage.collected",
    "job.cancelled", "job.created", "job.finished", "job.published", "key.created", "key.limited",
    "key.revoked", "policy.added", "policy.removed", "tags.changed", "version.quarantined",
    "version.released", "version.retired", "visibility.changed",
]  # fmt: skip


NameKind = Literal["adapter", "base", "composition"]
PolicyAction = Literal["allow", "deny"]
Visibility = Literal["private", "public"]
Severity = Literal["refuse", "warn", "note"]
EmbeddingKind = Literal["weights", "text", "behaviour"]
Status = Literal["admitted", "quarantined"]
ShownStatus = Literal["admitted", "quarantined", "retired"]
Shapes: TypeAlias = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Base:
    """A frozen model that adapters are trained on.

    `shapes` maps each module name to the (d_out, d_in) of its update; for an embedding, this is
    (width, vocabulary), as in `merge.peft_format.LoraModule`. `keys` contains `base_key` of the
    name and of each alias. `chat_template` is the SHA-256 of the base's chat template, or None if
    it is unknown (see `registry.admission.tokenizer`).
    """

    name: str
    architecture: str | None
    shapes: Shapes
    keys: frozenset[str]
    chat_template: str | None = None

    @property
    def module_count(self) -> int:
        """The number of modules."""
        return len(self.shapes)


@dataclass(frozen=True, slots=True)
class ModuleFacts:
    """The properties of one module of a version; see the same fields of `LoraModule`."""

    rank: int
    d_in: int
    d_out: int
    alpha: float
    kind: Literal["linear", "embedding"]

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name. This is ten times faster than `dataclasses.asdict`."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """The measurements of admission.

    `norms` maps each module to the Frobenius norm of its scaled update, and `norm` is the norm of
    all updates together. A module with non-finite values is absent from `norms`, and `norm` is
    None in that case.
    """

    rank: int  # the largest rank of any module
    modules: Mapping[str, ModuleFacts]
    use_rslora: bool
    dtypes: tuple[str, ...]
    bytes: int  # the size of the weights file
    norms: Mapping[str, float]
    norm: float | None
    base_said: str | None  # the base as written in the config
    peft_version: str | None
    lora_dropout: float | None
    chat_template: str | None  # the SHA-256 of the folder's template

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name as JSON values."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        modules = {name: module.to_json() for name, module in self.modules.items()}
        return fields | {"modules": modules, "norms": dict(self.norms), "dtypes": list(self.dtypes)}


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem and its severity; only the severity "refuse" prevents registration."""

    severity: Severity
    problem: "Problem"


@dataclass(frozen=True, slots=True)
class AdmissionReport:
    """All findings of admission about one folder."""

    base: str | None
    findings: tuple[Finding, ...]
    facts: AdapterFacts | None
    folder: "AdapterFolder | None"

    @property
    def accepted(self) -> bool:
        """Whether no finding refuses the adapter."""
        return not self.problems

    @property
    def problems(self) -> "tuple[Problem, ...]":
        """The problems that refuse the adapter."""
        return tuple(f.problem for f in self.findings if f.severity == "refuse")

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values, without the path of the folder."""
        facts = self.facts
        return {
            "accepted": self.accepted,
            "base": self.base,
            "findings": [{"severity": f.severity, **asdict(f.problem)} for f in self.findings],
            "facts": None if facts is None else facts.to_json(),
        }


@dataclass(frozen=True, slots=True)
class AdapterVersion:
    """One immutable content of an adapter."""

    name: str
    number: int
    digest: str
    base: str
    base_said: str | None
    rank: int
    modules: Mapping[str, ModuleFacts]
    use_rslora: bool
    dtypes: tuple[str, ...]
    bytes: int
    norm: float
    source: str | None
    licence: str | None
    peft_version: str | None
    lora_dropout: float | None
    chat_template: str | None  # as in AdapterFacts
    status: ShownStatus
    status_reason: str | None  # the reason for a quarantine
    card: str | None
    report: Mapping[str, Any]
    created_at: datetime
    created_by: str
    retired_at: datetime | None

    @property
    def module_count(self) -> int:
        """The number of modules that the adapter updates."""
        return len(self.modules)


@dataclass(frozen=True, slots=True)
class CompositionVersion:
    """One recipe of a composition; the registry does not interpret its text."""

    name: str
    number: int
    expression: str
    recipe_text: str
    recipe_digest: str
    base: str
    created_at: datetime
    created_by: str
    retired_at: datetime | None


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias and the number of the version that it points at."""

    alias: str
    number: int
    moved_at: datetime
    moved_by: str


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One entry of an alias's history; `from_number` is None in the first entry."""

    alias: str
    from_number: int | None
    to_number: int
    moved_at: datetime
    moved_by: str


@dataclass(frozen=True, slots=True)
class AdapterSummary:
    """One adapter of a list; `number` and later fields describe the newest live version."""

    name: str
    visibility: Visibility
    tags: tuple[str, ...]
    aliases: Mapping[str, int]
    number: int
    digest: str
    base: str
    rank: int
    bytes: int
    norm: float
    status: ShownStatus
    created_at: datetime


@dataclass(frozen=True, slots=True)
class CompositionSummary:
    """One composition of a list; `number` and later fields describe the newest live version."""

    name: str
    visibility: Visibility
    aliases: Mapping[str, int]
    number: int
    expression: str
    recipe_digest: str
    base: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Artifact:
    """A merged adapter that was built at least once, with the recipes that produced it."""

    digest: str
    bytes: int
    seconds: float
    report: Mapping[str, Any]
    created_at: datetime
    recipes: tuple["RecipeRecord", ...]


@dataclass(frozen=True, slots=True)
class Similar:
    """A version with nearly the same update; `cosine` is the estimated cosine of the two.

    If `same_content` is true, both have the same digest, and the cosine is 1.
    """

    reference: str  # for example "legal@2"
    cosine: float
    same_content: bool = False


@dataclass(frozen=True, slots=True)
class Registration:
    """A registered folder; `created` is False if a version of the name has the same content.

    `similar` lists other versions that are duplicates or near duplicates, most similar first.
    """

    version: AdapterVersion
    created: bool
    report: AdmissionReport
    similar: tuple[Similar, ...] = ()


@dataclass(frozen=True, slots=True)
class ResolvedAdapter:
    """A reference that resolves to one version of an adapter."""

    name: str
    number: int
    digest: str
    base: str
    rank: int
    modules: Mapping[str, ModuleFacts]


@dataclass(frozen=True, slots=True)
class ResolvedComposition:
    """A reference that resolves to one version of a composition."""

    name: str
    number: int
    expression: str
    recipe_text: str
    recipe_digest: str
    base: str


@dataclass(frozen=True, slots=True)
class ResolvedArtifact:
    """A digest that resolves to an artifact, with the first recipe that produced it."""

    digest: str
    recipe_text: str
    recipe_digest: str
    base: str


Resolution: TypeAlias = ResolvedAdapter | ResolvedComposition | ResolvedArtifact


@dataclass(frozen=True, slots=True)
class ListedModel:
    """One entry of the list of models: an adapter, a composition, or an alias of either."""

    id: str
    kind: NameKind
    base: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Ingredient:
    """One ingredient of a recipe: the digest of a version or an artifact, and its raw weight."""

    digest: str
    weight: float
    versions: tuple[str, ...]  # the versions with this content, for example "legal@2"


@dataclass(frozen=True, slots=True)
class RecipeRecord:
    """A recipe in a lineage; the registry does not interpret its text."""

    digest: str
    text: str
    base: str
    artifact: str | None
    ingredients: tuple[Ingredient, ...]
    compositions: tuple[str, ...]  # references, for example "legal-mix@2"


@dataclass(frozen=True, slots=True)
class Reach:
    """What a change of a content's status applies to: the content, and all that was made of it."""

    versions: tuple[str, ...]  # the versions with this content, for example "legal@2"
    merges: tuple[str, ...]  # versions of adapters that were made of it
    compositions: tuple[str, ...]  # versions of compositions, for example "legal-mix@2"
    artifacts: tuple[str, ...]  # digests


@dataclass(frozen=True, slots=True)
class Lineage:
    """The recipes that produced a digest, and a page of the recipes that use it.

    `next_cursor` is the cursor of the next page of `used_by`; it is None on the last page.
    """

    digest: str
    versions: tuple[str, ...]  # the versions with this content
    made_by: tuple[RecipeRecord, ...]
    used_by: tuple[RecipeRecord, ...]
    next_cursor: str | None
