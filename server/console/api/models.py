"""What `model` may name, as `/v1/models` lists it."""

from collections.abc import Iterable

from pydantic import BaseModel

from server.console.api.client import Api


class Model(BaseModel):
    """A base, an adapter, a composition or an alias of one."""

    id: str
    kind: str


class _Models(BaseModel):
    data: list[Model]


async def models(api: Api) -> list[Model]:
    """Return the models that the key may ask; the bases come first."""
    answer = await api.raw("GET", "/v1/models")
    return _Models.model_validate_json(answer.content).data


def bases_of(models: Iterable[Model]) -> list[str]:
    """Return the names of the bases among models."""
    return [model.id for model in models if model.kind == "base"]
