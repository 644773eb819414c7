"""Response bodies of the registry's API, made from its values by the names of their fields."""

from datetime import datetime
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from registry.callers import Role
from registry.paging import Page
from registry.types import Artifact, PolicyAction, Severity, ShownStatus, Visibility
from registry.upkeep.garbage import Reason, Store

_DIGEST = "3f" * 32
_MOMENT = "2026-11-22T08:10:00Z"
_BASE = "meta-llama/Llama-3.1-8B-Instruct"
I = TypeVar("I", bound=BaseModel)  # noqa: E741 - an item


class Item(BaseModel):
    """Base class of the response items."""

    model_config = ConfigDict(from_attributes=True)


class PageOf(BaseModel, Generic[I]):
    """A page of a list. Pass `next_cursor` as `cursor` for the next page, until it is null."""

    items: list[I]
    next_cursor: str | None = Field(examples=["WyJhZGFwdGVycyIsICJ0ZWFtL2xlZ2FsIl0="])

    @classmethod
    def of(cls, item: type[I], page: Page[Any]) -> Self:
        """Return the page of items for a page of the registry's values."""
        items = [item.model_validate(value) for value in page.items]
        return cls(items=items, next_cursor=page.next_cursor)


class AdapterItem(Item):
    """An adapter, with the fields of its newest version in use."""

    name: str = Field(examples=["team/legal"])
    visibility: Visibility = Field(examples=["private"])
    tags: list[str] = Field(examples=[["law"]])
    aliases: dict[str, int] = Field(examples=[{"prod": 2}])
    number: int = Field(examples=[3])
    digest: str = Field(examples=[_DIGEST])
    base: str = Field(examples=[_BASE])
    rank: int = Field(examples=[16])
    bytes: int = Field(examples=[83_886_080])
    norm: float = Field(examples=[3.2], description="The Frobenius norm of the scaled update.")
    status: ShownStatus = Field(examples=["admitted"])
    created_at: datetime = Field(examples=[_MOMENT])


class VersionItem(Item):
    """A version of an adapter, whose content is immutable."""

    name: str = Field(examples=["team/legal"])
    number: int = Field(examples=[3])
    digest: str = Field(examples=[_DIGEST])
    base: str = Field(examples=[_BASE])
    rank: int = Field(examples=[16])
    module_count: int = Field(examples=[224])
    use_rslora: bool = Field(examples=[False])
    dtypes: list[str] = Field(examples=[["BF16"]])
    bytes: int = Field(examples=[83_886_080])
    norm: float = Field(examples=[3.2])
    source: str | None = Field(examples=["hf:acme/legal-lora@0123456#"])
    licence: str | None = Field(examples=["apache-2.0"])
    peft_version: str | None = Field(examples=["0.18.0"])
    lora_dropout: float | None = Field(examples=[0.05])
    chat_template: str | None = Field(examples=[None])
    status: ShownStatus = Field(examples=["admitted"])
    status_reason: str | None = Field(examples=[None])
    created_at: datetime = Field(examples=[_MOMENT])
    created_by: str = Field(examples=["ci"])
    retired_at: datetime | None = Field(examples=[None])


class ModuleItem(Item):
    """The rank and shape of a version's update of one module."""

    rank: int = Field(examples=[16])
    d_in: int = Field(examples=[4096])
    d_out: int = Field(examples=[4096])
    alpha: float = Field(examples=[32.0])
    kind: str = Field(examples=["linear"])


class VersionDetail(VersionItem):
    """A version with its card, its modules and its admission report."""

    base_said: str | None = Field(examples=[_BASE])
    card: str | None = Field(examples=["# Legal\nTrained on court decisions."])
    modules: dict[str, ModuleItem]
    report: dict[str, Any] = Field(examples=[{"accepted": True, "findings": []}])


class SimilarItem(Item):
    """A version with nearly the same update."""

    reference: str = Field(examples=["team/legal-old@2"])
    cosine: float = Field(examples=[0.9995])
    same_content: bool = Field(examples=[False])


class FindingItem(BaseModel):
    """A finding of admission; only findings of severity `refuse` reject an adapter."""

    severity: Severity = Field(examples=["warn"])
    code: str = Field(examples=["A052 zero-update"])
    file: str = Field(examples=["adapter_model.safetensors"])
    tensor: str | None = Field(examples=["model.layers.0.self_attn.q_proj.lora_B.weight"])
    expected: str = Field(examples=["an update that changes something"])
    found: str = Field(examples=["all zeros"])


class RegisteredItem(BaseModel):
    """The result of an import; `created` is false if the name already had this content."""

    version: VersionItem
    created: bool = Field(examples=[True])
    findings: list[FindingItem]
    similar: list[SimilarItem]


class CompositionItem(Item):
    """A composition, with the fields of its newest version in use."""

    name: str = Field(examples=["team/legal-sql"])
    visibility: Visibility = Field(examples=["private"])
    aliases: dict[str, int] = Field(examples=[{"prod": 1}])
    number: int = Field(examples=[2])
    expression: str = Field(examples=["lego(legal, sql@prod; rank=16)"])
    recipe_digest: str = Field(examples=[_DIGEST])
    base: str = Field(examples=[_BASE])
    created_at: datetime = Field(examples=[_MOMENT])


class CompositionVersionItem(Item):
    """A version of a composition: one recipe."""

    name: str = Field(examples=["team/legal-sql"])
    number: int = Field(examples=[2])
    expression: str = Field(examples=["lego(legal, sql@prod; rank=16)"])
    recipe_text: str = Field(examples=['{"base":"…","method":"lego"}'])
    recipe_digest: str = Field(examples=[_DIGEST])
    base: str = Field(examples=[_BASE])
    created_at: datetime = Field(examples=[_MOMENT])
    created_by: str = Field(examples=["ci"])
    retired_at: datetime | None = Field(examples=[None])


class AliasItem(Item):
    """An alias and the version that it points to."""

    alias: str = Field(examples=["prod"])
    number: int = Field(examples=[3])
    moved_at: datetime = Field(examples=[_MOMENT])
    moved_by: str = Field(examples=["ada"])


class AliasMoveItem(Item):
    """A move of an alias; `from_number` is null for the first."""

    alias: str = Field(examples=["prod"])
    from_number: int | None = Field(examples=[2])
    to_number: int = Field(examples=[3])
    moved_at: datetime = Field(examples=[_MOMENT])
    moved_by: str = Field(examples=["ada"])


class TagsItem(BaseModel):
    """The tags of an adapter, sorted."""

    tags: list[str] = Field(examples=[["law"]])


class ExamplesItem(BaseModel):
    """The examples of an adapter, in order."""

    examples: list[str] = Field(examples=[["Which court has jurisdiction?"]])


class StatusItem(Item):
    """What a change of status applies to: a content, and all that was made of it."""

    versions: list[str] = Field(
        examples=[["team/legal@3"]], description="The versions that have this content."
    )
    merges: list[str] = Field(
        examples=[["team/legal-merged@1"]],
        description="Versions of adapters that were made of it.",
    )
    compositions: list[str] = Field(examples=[["team/legal-sql@2"]])
    artifacts: list[str] = Field(examples=[["a0" * 32]])


class EvaluationItem(Item):
    """A measured value of a version; `n` is the number of examples."""

    id: int = Field(examples=[17])
    reference: str = Field(examples=["team/legal@3"])
    dataset: str = Field(examples=["legalbench/hearsay"])
    metric: str = Field(examples=["accuracy"])
    value: float = Field(examples=[0.87])
    n: int | None = Field(examples=[94])
    measured_at: datetime = Field(examples=[_MOMENT])
    created_at: datetime = Field(examples=[_MOMENT])
    created_by: str = Field(examples=["ci"])


class IngredientItem(Item):
    """An ingredient of a recipe."""

    digest: str = Field(examples=[_DIGEST])
    weight: float = Field(examples=[1.0])
    versions: list[str] = Field(
        examples=[["team/legal@3"]], description="The versions that have this content."
    )


class RecipeItem(Item):
    """A recipe with the artifact and the compositions that it made; `text` is JSON."""

    digest: str = Field(examples=[_DIGEST])
    text: str = Field(examples=['{"base":"…","method":"lego"}'])
    base: str = Field(examples=[_BASE])
    artifact: str | None = Field(examples=["a0" * 32])
    ingredients: list[IngredientItem]
    compositions: list[str] = Field(examples=[["team/legal-sql@2"]])


class LineageItem(Item):
    """The recipes that made a digest and those that use it; `next_cursor` pages the latter."""

    digest: str = Field(examples=[_DIGEST])
    versions: list[str] = Field(
        examples=[["team/legal@3"]], description="The versions that have this content."
    )
    made_by: list[RecipeItem]
    used_by: list[RecipeItem]
    next_cursor: str | None = Field(examples=[None])


class ArtifactItem(Item):
    """A merged adapter. Files that are not on disk are built again when a request needs them."""

    digest: str = Field(examples=["a0" * 32])
    bytes: int = Field(examples=[83_886_080])
    seconds: float = Field(examples=[1.4], description="The duration of the merge.")
    created_at: datetime = Field(examples=[_MOMENT])
    recipes: list[RecipeItem]
    on_disk: bool = Field(examples=[True])

    @classmethod
    def made(cls, artifact: Artifact, **more: Any) -> Self:
        """Return the item of an artifact, with the fields that the artifact does not have."""
        names = cls.model_fields.keys() - more.keys()
        return cls.model_validate({name: getattr(artifact, name) for name in names} | more)


class CanaryFailureItem(Item):
    """A prompt of the canary, by its number, that was not answered as expected."""

    number: int = Field(examples=[3])
    expected: str = Field(examples=["a refusal"])
    answer: str = Field(examples=["Sure! First,"], description="The beginning of the answer.")


class CanaryItem(Item):
    """The result of the server's canary; `prompts` identifies the set of prompts."""

    prompts: str = Field(examples=[_DIGEST])
    asked: int = Field(examples=[16])
    passed: bool = Field(examples=[False])
    failures: list[CanaryFailureItem]
    seconds: float = Field(examples=[2.5])
    created_at: datetime = Field(examples=[_MOMENT])


class ArtifactDetail(ArtifactItem):
    """An artifact with the report of its merge, and the newest result of the canary."""

    report: dict[str, Any] = Field(examples=[{"norm": 3.4}])
    canary: CanaryItem | None = None


class GarbageItem(Item):
    """A folder that can be removed."""

    store: Store = Field(examples=["artifacts"])
    digest: str = Field(examples=[_DIGEST])
    bytes: int = Field(examples=[83_886_080])
    idle_seconds: float = Field(examples=[864000.0], description="The time since the last use.")
    reason: Reason = Field(examples=["unused"])


class CollectedItem(GarbageItem):
    """A folder of the plan; `removed` is false if it is in use again."""

    removed: bool = Field(examples=[True])


class CollectedReport(BaseModel):
    """The folders of the plan, the bytes that were freed, and what was past its retention."""

    items: list[CollectedItem]
    bytes_removed: int = Field(examples=[83_886_080])
    rows_removed: int = Field(examples=[0])
    job_folders_removed: int = Field(examples=[0])


class BaseItem(Item):
    """A base and the normalized spellings of its name."""

    name: str = Field(examples=[_BASE])
    architecture: str | None = Field(examples=["LlamaForCausalLM"])
    module_count: int = Field(examples=[226])
    keys: list[str] = Field(examples=[["meta-llama/llama-3.1-8b-instruct"]])


class BaseDetail(BaseItem):
    """A base with the shapes that adapters must have."""

    shapes: dict[str, tuple[int, int]] = Field(
        examples=[{"model.layers.0.mlp.up_proj": (14336, 4096)}],
        description="The shape (out, in) of each module's update.",
    )


class LimitsItem(Item):
    """What a key may use in a minute; null is left to the server's settings."""

    requests: int | None = Field(examples=[60])
    tokens: int | None = Field(examples=[100_000])
    compositions: int | None = Field(examples=[5])
    build_seconds: float | None = Field(examples=[30])


class KeyItem(Item):
    """An API key, without the key itself. Without a namespace it has rights to all, or to none."""

    name: str = Field(examples=["ci"])
    prefix: str = Field(examples=["weft_x8Fq"])
    role: Role = Field(examples=["publish"])
    namespace: str | None = Field(examples=["team"])
    all_namespaces: bool = Field(examples=[False])
    limits: LimitsItem
    created_at: datetime = Field(examples=[_MOMENT])
    created_by: str = Field(examples=["ada"])
    last_used_at: datetime | None = Field(examples=[_MOMENT])
    revoked_at: datetime | None = Field(examples=[None])


class NewKeyItem(BaseModel):
    """A new key. The key is shown only in this response."""

    key: str = Field(examples=["weft_x8Fq…"])
    about: KeyItem


class PolicyItem(Item):
    """A policy on compositions."""

    id: int = Field(examples=[3])
    action: PolicyAction = Field(examples=["deny"])
    selectors: list[str] = Field(examples=[["tag:medical", "namespace:acme"]])
    reason: str = Field(examples=["not approved together"])
    created_at: datetime = Field(examples=[_MOMENT])
    created_by: str = Field(examples=["ada"])


class ChangeItem(Item):
    """An entry of the audit log."""

    id: int = Field(examples=[41])
    at: datetime = Field(examples=[_MOMENT])
    actor: str = Field(examples=["ada"])
    action: str = Field(examples=["alias.moved"])
    subject: str = Field(examples=["team/legal"])
    detail: dict[str, Any] = Field(examples=[{"alias": "prod", "from": 2, "to": 3}])


class Problem(BaseModel):
    """An error (RFC 9457). Codes add members: `near`, `aliases`, `compositions`, `findings`, …"""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:weft:problem:model_not_found"])
    title: str = Field(
        examples=["Nothing is registered under the name; similar names are suggested."]
    )
    status: int = Field(examples=[404])
    detail: str = Field(examples=["Nothing is registered as 'legl'. Near names: legal."])
    instance: str = Field(examples=["/registry/adapters/legl"])
    code: str = Field(examples=["model_not_found"])
