"""Settings of the bases: one of `model`, or several of `bases`, each with options of its own."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings

# What vLLM accepts for --max-lora-rank (LoRAConfig in vLLM 0.32).
_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def _known_rank(value: int) -> int:
    if value not in _LORA_RANKS:
        raise ValueError(f"vLLM takes one of {', '.join(map(str, _LORA_RANKS))}")
    return value


Dtype: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]
LoraRank: TypeAlias = Annotated[int, AfterValidator(_known_rank)]


class BaseOptions(BaseModel):
    """A base among several: its model, and what it has of its own; the rest is as for all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1)
    dtype: Dtype | None = None
    max_lora_rank: LoraRank | None = None
    max_loras: int | None = Field(None, ge=1)
    max_cpu_loras: int | None = Field(None, ge=1)
    max_model_len: int | None = Field(None, ge=1)
    engine_args: str | None = None


class BasesSettings(BaseSettings):
    """The settings that a base may have of its own."""

    model: str = Field(
        "meta-llama/Llama-3.1-8B-Instruct", description="base model: a Hub id or a local folder"
    )
    served_base: str = Field("", description="the base's name in requests; default: `model`")
    bases: Mapping[str, BaseOptions] = Field(
        {},
        description="several bases in place of `model`, as JSON: by name, `model` and what is not "
        "as for all (deploy/README.md, Several bases)",
    )
    engine_port: int = Field(
        0, ge=0, le=65535, description="the child engine's port; 0: a free one"
    )
    engine_args: str = Field("", description="additional vLLM arguments, quoted as in a shell")
    max_lora_rank: LoraRank = Field(64, description="largest rank that can be merged or served")
    max_loras: int = Field(8, ge=1, description="adapters that can run in one engine step")
    max_cpu_loras: int = Field(32, ge=1, description="adapters that the engine keeps in memory")
    max_model_len: int | None = Field(
        None, ge=1, description="context length; default: that of the model"
    )
    dtype: Dtype = Field("auto", description="dtype of the engine's weights")

    @model_validator(mode="after")
    def _named_base(self) -> Self:
        object.__setattr__(self, "served_base", self.served_base or self.model)  # frozen
        return self

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        default = type(self).model_fields["model"].default
        if self.bases and (self.model, self.served_base) != (default, default):
            raise ValueError(
                "bases come in place of model and served_base: name that model among the bases, "
                "as --base NAME=MODEL"
            )
        if len(self.bases) > 1 and self.engine_port:
            raise ValueError("engine_port is for one engine: leave it out with several bases")
        if not all(self.bases):
            raise ValueError("bases: a base has no name")
        return self

    @model_validator(mode="after")
    def _enough_memory_slots(self) -> Self:
        for own in self.of_bases():
            if own.max_cpu_loras < own.max_loras:
                which = f" for {own.served_base}" if self.bases else ""
                raise ValueError(f"max_cpu_loras must be at least max_loras{which}")
        return self

    def of_bases(self) -> tuple[Self, ...]:
        """Return the settings of each base: these, with the base's own. The first is the default.

        Each has the base's `model` and `served_base`, and no `bases`.
        """
        if not self.bases:
            return (self,)
        return tuple(self._of(name, options) for name, options in self.bases.items())

    def _of(self, name: str, options: BaseOptions) -> Self:
        own: dict[str, Any] = options.model_dump(exclude_none=True)
        return self.model_copy(update={"served_base": name, "bases": {}, **own})

    @property
    def merge_dtype(self) -> str:
        """Dtype of merged files: the engine's, or bfloat16 for auto; weights are rounded once."""
        return "bfloat16" if self.dtype == "auto" else self.dtype
