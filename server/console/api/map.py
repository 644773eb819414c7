"""The map: all adapters that the key may see, as points in a plane."""

from typing import Literal

from pydantic import BaseModel

from server.console.api.client import Api

By = Literal["text", "weights", "behaviour"]
_SECONDS = 60.0  # the first view of a revision computes the plane


class Legend(BaseModel):
    """What the numbers of the columns stand for."""

    base: list[str]
    owner: list[str]
    status: list[str]
    tags: list[str]


class AdapterMap(BaseModel):
    """Columns of one length, a point each; `left_out` adapters have no embedding of this kind."""

    by: By
    left_out: int
    name: list[str]
    number: list[int]
    x: list[float]
    y: list[float]
    rank: list[int]
    base: list[int]
    owner: list[int]
    status: list[int]
    tags: list[list[int]]
    legend: Legend


async def adapter_map(api: Api, by: By) -> AdapterMap:
    """Return the map by one kind of embedding."""
    return await api.get(AdapterMap, "map", query={"by": by}, seconds=_SECONDS)
