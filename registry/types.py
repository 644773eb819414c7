"""What the registry hands out: frozen values, free of sessions and of the database.

Covered: bases, adapters, compositions, aliases, admission reports, resolutions, lineage.
Not covered: references as text (`registry.references`) and the rows these are read from
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
# Of the audit log (`registry.access.audit`).
Action = Literal[
    "adapter.registered", "alias.moved", "artifact.removed", "base.added", "composition.added",
    "evaluation.recorded", "examples.changed", "file.added", "file.removed", "garbage.collected",
    "job.cancelled", "job.created", "job.finished", "job.published", "key.created", "key.revoked",
    "tags.changed", "version.quarantined", "version.released", "version.retired",
    "visibility.changed",
]  # fmt: skip


NameKind = Literal["adapter", "base", "composition"]
Visibility = Literal["private", "public"]
Severity = Literal["refuse", "warn", "note"]
EmbeddingKind = Literal["weights", "text", "behaviour"]
Status = Literal["admitted", "quarantined"]
ShownStatus = Literal["admitted", "quarantined", "retired"]
Shapes: TypeAlias = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Base:
    """A frozen model that adapters are trained on.

    `shapes` gives (d_out, d_in) of each module's update by module name. For an embedding that is
    (width, vocabulary), as `merge.peft_format.LoraModule` has it. `keys` are what `base_key` makes
    of its name and its aliases. `chat_template` is the SHA-256 of its template, where it is known:
    `registry.admission.tokenizer`.
    """

    name: str
    architecture: str | None
    shapes: Shapes
    keys: frozenset[str]
    chat_template: str | None = None

    @property
    def module_count(self) -> int:
        """How many modules it has."""
        return len(self.shapes)


@dataclass(frozen=True, slots=True)
class ModuleFacts:
    """What a version holds for one module; the meaning of LoraModule's fields of the same name."""

    rank: int
    d_in: int
    d_out: int
    alpha: float
    kind: Literal["linear", "embedding"]

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name; `dataclasses.asdict` takes ten times as long."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What admission measured.

    `norms` holds the Frobenius norm of each module's scaled update and `norm` that of all of them
    together; a module with non-finite numbers has none, and then neither has the whole.
    """

    rank: int  # the largest of any module
    modules: Mapping[str, ModuleFacts]
    use_rslora: bool
    dtypes: tuple[str, ...]
    bytes: int  # of the weights file
    norms: Mapping[str, float]
    norm: float | None
    base_said: str | None  # the base as the config writes it
    peft_version: str | None
    lora_dropout: float | None
    chat_template: str | None  # SHA-256 of the one in the folder

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name as JSON values."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        modules = {name: module.to_json() for name, module in self.modules.items()}
        return fields | {"modules": modules, "norms": dict(self.norms), "dtypes": list(self.dtypes)}


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem and how much it matters: only "refuse" keeps an adapter out."""

    severity: Severity
    problem: "Problem"


@dataclass(frozen=True, slots=True)
class AdmissionReport:
    """Everything that admission found in one folder."""

    base: str | None
    findings: tuple[Finding, ...]
    facts: AdapterFacts | None
    folder: "AdapterFolder | None"

    @property
    def accepted(self) -> bool:
        """True when nothing was found that refuses the adapter."""
        return not self.problems

    @property
    def problems(self) -> "tuple[Problem, ...]":
        """What refuses the adapter."""
        return tuple(f.problem for f in self.findings if f.severity == "refuse")

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values, without the folder's place on this machine."""
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
    status_reason: str | None  # of a quarantine
    card: str | None
    report: Mapping[str, Any]
    created_at: datetime
    created_by: str
    retired_at: datetime | None

    @property
    def module_count(self) -> int:
        """How many modules it has an update for."""
        return len(self.modules)


@dataclass(frozen=True, slots=True)
class CompositionVersion:
    """One recipe under a composition's name; its text is opaque here."""

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
    """Where a movable name points now."""

    alias: str
    number: int
    moved_at: datetime
    moved_by: str


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One entry of an alias's history; `from_number` is None for its first."""

    alias: str
    from_number: int | None
    to_number: int
    moved_at: datetime
    moved_by: str


@dataclass(frozen=True, slots=True)
class AdapterSummary:
    """A line in a list of adapters; all from `number` on is of the newest live version."""

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
    """A line in a list of compositions; all from `number` on is of the newest live version."""

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
    """A merged adapter that was built at least once, with the recipes that it was built from."""

    digest: str
    bytes: int
    seconds: float
    report: Mapping[str, Any]
    created_at: datetime
    recipes: tuple["RecipeRecord", ...]


@dataclass(frozen=True, slots=True)
class Similar:
    """A version with nearly the same update, by the estimated cosine of the two.

    `same_content`: both have one digest, and the cosine is 1.
    """

    reference: str  # for example "legal@2"
    cosine: float
    same_content: bool = False


@dataclass(frozen=True, slots=True)
class Registration:
    """A registered folder; `created` is False when the name already had this content.

    `similar` lists the (near-)duplicates under other names and numbers, most similar first.
    """

    version: AdapterVersion
    created: bool
    report: AdmissionReport
    similar: tuple[Similar, ...] = ()


@dataclass(frozen=True, slots=True)
class ResolvedAdapter:
    """A reference that means one version of an adapter."""

    name: str
    number: int
    digest: str
    base: str
    rank: int
    modules: Mapping[str, ModuleFacts]


@dataclass(frozen=True, slots=True)
class ResolvedComposition:
    """A reference that means one version of a composition."""

    name: str
    number: int
    expression: str
    recipe_text: str
    recipe_digest: str
    base: str


@dataclass(frozen=True, slots=True)
class ResolvedArtifact:
    """A digest that means something weft has merged, with the recipe it was first made by."""

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
    """One ingredient of a recipe: a version's (or an artifact's) digest and its raw weight."""

    digest: str
    weight: float
    versions: tuple[str, ...]  # that have this content, for example "legal@2"


@dataclass(frozen=True, slots=True)
class RecipeRecord:
    """A recipe as lineage sees it; its text is opaque here."""

    digest: str
    text: str
    base: str
    artifact: str | None
    ingredients: tuple[Ingredient, ...]
    compositions: tuple[str, ...]  # as references, for example "legal-mix@2"


@dataclass(frozen=True, slots=True)
class Lineage:
    """Both ways from one digest: the recipes that made it, and some of those that it went into.

    `next_cursor` gives the rest of `used_by`, None when these were the last.
    """

    digest: str
    versions: tuple[str, ...]  # that have this content
    made_by: tuple[RecipeRecord, ...]
    used_by: tuple[RecipeRecord, ...]
    next_cursor: str | None
