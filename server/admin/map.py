"""`GET /registry/map`: where adapters lie by an embedding, as columns that a chart draws at once.

A map is computed once per revision of the registry, kind and namespace, in a pool of one thread.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from registry.callers import Caller
from registry.search.plane import Plane
from registry.service import Search
from registry.types import EmbeddingKind, ShownStatus
from server.auth import Reader
from server.routing import admin_routes

_KEPT = 12  # a map of ten thousand adapters has a megabyte
_By = Annotated[EmbeddingKind, Query(description="The embedding that is drawn.")]


class LegendBody(BaseModel):
    """The values that columns refer to by position; the namespace "" is none."""

    base: list[str] = Field(examples=[["meta-llama/Llama-3.1-8B-Instruct"]])
    owner: list[str] = Field(examples=[["ada", "ci"]])
    namespace: list[str] = Field(examples=[["", "team"]])
    status: list[ShownStatus] = Field(examples=[["admitted"]])
    tags: list[str] = Field(examples=[["law"]])


class MapBody(BaseModel):
    """The newest live version of every adapter, as columns of one length; x and y from -1 to 1.

    `left_out` adapters have no embedding to draw. `legend` has the values that the columns of its
    names refer to.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "revision": 41, "by": "text", "encoder": "hashing-1", "left_out": 0,
                "name": ["legal", "team/sql"], "number": [2, 1], "x": [0.12, -1.0],
                "y": [0.7, 0.1], "rank": [16, 8], "base": [0, 0], "owner": [0, 1],
                "namespace": [0, 1], "status": [0, 0], "tags": [[0], []],
                "legend": {
                    "base": ["meta-llama/Llama-3.1-8B-Instruct"], "owner": ["ada", "ci"],
                    "namespace": ["", "team"], "status": ["admitted"], "tags": ["law"],
                },
            }
        }
    )  # fmt: skip

    revision: int
    by: EmbeddingKind
    encoder: str | None
    left_out: int
    name: list[str]
    number: list[int]
    x: list[float]
    y: list[float]
    rank: list[int]
    base: list[int]
    owner: list[int]
    namespace: list[int]
    status: list[int]
    tags: list[list[int]]
    legend: LegendBody


def map_router(search: Search) -> APIRouter:
    """Return the route."""
    router = admin_routes("", "map")
    maps = _Maps(search)

    @router.get("/map", response_class=Response, responses={200: {"model": MapBody}})
    def get_map(caller: Reader, by: _By = "text") -> Response:
        """Return a map of the adapters that the caller sees: near ones are alike."""
        return Response(maps.of(by, caller), media_type="application/json")

    return router


class _Maps:
    """The newest maps as JSON. One thread uses it."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._known: OrderedDict[tuple[EmbeddingKind, str | None], tuple[int, bytes]] = (
            OrderedDict()
        )

    def of(self, kind: EmbeddingKind, caller: Caller) -> bytes:
        """Return a map as it was made at this revision, or make it."""
        key = kind, caller.namespace
        revision, text = self._known.get(key, (-1, b""))
        if revision != self._search.finder.revision():
            plane = self._search.mapper.plane(kind, caller)
            text = _body(plane).model_dump_json().encode()
            self._known[key] = plane.revision, text
        self._known.move_to_end(key)
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return text


def _body(plane: Plane) -> MapBody:
    points = plane.points
    spaces = [point.name.partition("/")[0] if "/" in point.name else "" for point in points]
    bases, base = _column(point.base for point in points)
    owners, owner = _column(point.owner for point in points)
    namespaces, namespace = _column(spaces)
    statuses, status = _column(point.status for point in points)
    tags, _ = _column(tag for point in points for tag in point.tags)
    place = {tag: at for at, tag in enumerate(tags)}
    return MapBody(
        revision=plane.revision, by=plane.kind, encoder=plane.encoder, left_out=plane.left_out,
        name=[point.name for point in points], number=[point.number for point in points],
        x=[point.x for point in points], y=[point.y for point in points],
        rank=[point.rank for point in points], base=base, owner=owner, namespace=namespace,
        status=status, tags=[[place[tag] for tag in point.tags] for point in points],
        legend=LegendBody.model_validate(
            {"base": bases, "owner": owners, "namespace": namespaces, "status": statuses,
             "tags": tags}
        ),
    )  # fmt: skip


def _column(values: Iterable[str]) -> tuple[list[str], list[int]]:
    """Return the different values, sorted, and the place of each value among them."""
    column = list(values)
    legend = sorted(set(column))
    place = {value: at for at, value in enumerate(legend)}
    return legend, [place[value] for value in column]
