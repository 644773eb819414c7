"""Request bodies of the registry's API. Unknown fields are refused, so that a typo is an error."""

import json
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from registry.access.policies import MAX_REASON
from registry.callers import KeyLimits, Role
from registry.references import MAX_ALIAS_LENGTH, MAX_LENGTH
from registry.search.descriptions import MAX_EXAMPLES_CHARACTERS
from registry.types import PolicyAction, ShownStatus, Visibility
from server.admin.fields import MAX_NUMBER, NAME, PRINTABLE, SEGMENT
from server.compose.expression import MAX_LENGTH as MAX_MODEL

Name = Annotated[str, StringConstraints(pattern=NAME, max_length=MAX_LENGTH)]
_Alias = Annotated[str, StringConstraints(pattern=f"^{SEGMENT}$", max_length=MAX_ALIAS_LENGTH)]
_Text = Annotated[str, StringConstraints(pattern=PRINTABLE, max_length=MAX_LENGTH)]
_Tag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._:-]{0,59}$")]
_Example = Annotated[str, StringConstraints(pattern=r"^[^\x00]*\S[^\x00]*$", max_length=10_000)]
_MAX_EXPRESSION = 20_000
_MAX_OBJECT = 65_536
# All parameters of a search together must fit into a URL.
MAX_TEXT = 8000


class Body(BaseModel):
    """Base class of the bodies."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ImportBody(Body):
    """An adapter in a folder on the server."""

    name: Name = Field(examples=["team/legal"])
    folder: str = Field(
        pattern=PRINTABLE, max_length=4000, examples=["/srv/adapters/legal"],
        description="A folder below one of WEFT_IMPORT_ROOTS.",
    )  # fmt: skip
    base: _Text | None = Field(None, examples=["meta-llama/Llama-3.1-8B-Instruct"])
    alias: _Alias | None = Field(None, examples=["candidate"])


class HubImportBody(Body):
    """An adapter on the Hugging Face Hub."""

    name: Name = Field(examples=["team/legal"])
    address: str = Field(
        pattern=PRINTABLE, max_length=500, examples=["hf:acme/legal@main#checkpoint-100"],
        description="hf:owner/name, and perhaps a revision and a folder.",
    )  # fmt: skip
    base: _Text | None = Field(None, examples=["meta-llama/Llama-3.1-8B-Instruct"])
    alias: _Alias | None = Field(None, examples=["candidate"])


class AliasBody(Body):
    """The version that an alias points to."""

    version: int = Field(ge=1, le=MAX_NUMBER, examples=[3])


class VisibilityBody(Body):
    """Whether other namespaces can see the name."""

    visibility: Visibility = Field(examples=["public"])


class StatusBody(Body):
    """Whether a version's content can be served; only `admitted` needs no reason."""

    status: ShownStatus = Field(examples=["quarantined"])
    reason: _Text | None = Field(None, examples=["answers in verse"])

    @model_validator(mode="after")
    def _reasoned(self) -> Self:
        if self.status != "admitted" and self.reason is None:
            raise ValueError("A quarantine or a retirement of a content needs a reason.")
        return self


class TagsBody(Body):
    """Tags to add and to remove."""

    add: list[_Tag] = Field([], max_length=50, examples=[["law"]])
    remove: list[_Tag] = Field([], max_length=50, examples=[["draft"]])


class ExamplesBody(Body):
    """Example requests for an adapter, which replace the previous ones."""

    examples: list[_Example] = Field(max_length=100, examples=[["Which court has jurisdiction?"]])

    @model_validator(mode="after")
    def _not_too_long(self) -> Self:
        if sum(map(len, self.examples)) > MAX_EXAMPLES_CHARACTERS:
            limit = MAX_EXAMPLES_CHARACTERS
            raise ValueError(f"All examples together have at most {limit} characters.")
        return self


class _ObjectBody(Body):
    """A body that may hold a `composition` object."""

    composition: dict[str, Any] | None = Field(
        None, examples=[{"method": "lego", "adapters": [{"name": "legal", "weight": 0.5}]}]
    )

    @property
    def raw_composition(self) -> bytes | None:
        """The object as the JSON that `read_composition` takes."""
        return None if self.composition is None else json.dumps(self.composition).encode()


class CompositionBody(_ObjectBody):
    """An expression, or a `composition` object, to save as a version of a composition.

    Its references are resolved now.
    """

    model_config = ConfigDict(
        json_schema_extra={"example": {"expression": "lego(legal, sql@prod; rank=16)"}}
    )

    expression: str | None = Field(None, pattern=PRINTABLE, max_length=_MAX_EXPRESSION)

    @model_validator(mode="after")
    def _says_one(self) -> Self:
        if (self.expression is None) == (self.composition is None):
            raise ValueError("Give either an expression or a composition.")
        if len(self.raw_composition or b"") > _MAX_OBJECT:
            raise ValueError(f"A composition has at most {_MAX_OBJECT:,} characters as JSON.")
        return self


class ModelBody(_ObjectBody):
    """What a request for inference would name: a model, or a `composition` object."""

    model: str | None = Field(
        None, pattern=PRINTABLE, max_length=MAX_MODEL, examples=["lego(legal, 0.5*sql; rank=16)"],
        description="As in a request for inference; beside a composition, it names a base.",
    )  # fmt: skip
    prompt: str = Field(
        "", max_length=MAX_TEXT, examples=[""], description="The text that `auto(…)` searches by."
    )

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.composition is None and not (self.model or "").strip():
            raise ValueError("Give a model, or a composition.")
        return self

    @property
    def named(self) -> str:
        """The model without spaces around it; "" where a composition stands for itself."""
        return (self.model or "").strip()


class PublishBody(Body):
    """The adapter that gets the merged composition as a new version."""

    adapter: Name = Field(examples=["team/legal-sql"])
    alias: _Alias | None = Field(None, examples=["candidate"])


class EvaluationBody(Body):
    """A measured value of a metric."""

    dataset: _Text = Field(examples=["legalbench/hearsay"])
    metric: _Text = Field(examples=["accuracy"])
    value: float = Field(examples=[0.87])
    n: int | None = Field(None, ge=1, le=2**31 - 1, examples=[94])
    measured_at: datetime | None = Field(None, examples=["2026-11-20T12:00:00Z"])


class BaseBody(Body):
    """A base and its config.json, from which weft computes the shapes of its modules."""

    name: _Text = Field(examples=["meta-llama/Llama-3.1-8B-Instruct"])
    config: dict[str, Any] | None = Field(
        None, description="config.json of the base; may be left out for a registered base",
        examples=[{
            "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
            "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
            "vocab_size": 128256,
        }],
    )  # fmt: skip
    aliases: list[_Text] = Field([], max_length=100, examples=[["unsloth/Llama-3.1-8B-Instruct"]])


class LimitsBody(Body):
    """What a key may use in a minute; null leaves a limit to the server's settings."""

    requests: int | None = Field(None, ge=0, le=MAX_NUMBER, examples=[60])
    tokens: int | None = Field(None, ge=0, le=MAX_NUMBER, examples=[100_000])
    compositions: int | None = Field(None, ge=0, le=MAX_NUMBER, examples=[5])
    build_seconds: float | None = Field(None, ge=0, le=MAX_NUMBER, examples=[30])

    def limits(self) -> KeyLimits:
        """Return the limits."""
        return KeyLimits(**self.model_dump())


class KeyBody(Body):
    """A key to create. Without a namespace it sees what is public."""

    name: str = Field(
        pattern=f"^({SEGMENT}/)?{SEGMENT}$", max_length=121, examples=["ci"],
        description="The name, which may begin with the namespace: `team/ci`.",
    )  # fmt: skip
    role: Role = Field(examples=["publish"])
    namespace: str | None = Field(None, pattern=f"^{SEGMENT}$", max_length=60, examples=["team"])
    all_namespaces: bool = Field(False, description="Rights to every namespace.", examples=[False])
    limits: LimitsBody | None = Field(
        None, description="Its own limits; only a key for all namespaces may set them.",
        examples=[{"requests": 60}],
    )  # fmt: skip


class PolicyBody(Body):
    """A policy: one selector for ingredients, two for pairs of different ingredients."""

    action: PolicyAction = Field(examples=["deny"])
    selectors: list[_Text] = Field(
        min_length=1, max_length=2, examples=[["tag:medical", "namespace:acme"]],
        description="any, tag:TAG, namespace:NAMESPACE or adapter:NAME",
    )  # fmt: skip
    reason: str = Field(
        pattern=PRINTABLE, max_length=MAX_REASON, examples=["not approved together"],
        description="Shown to everybody whose composition is refused.",
    )  # fmt: skip
