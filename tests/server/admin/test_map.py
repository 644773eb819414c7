"""`GET /registry/map`: columns of places for the adapters that a caller sees."""

from typing import Any

import pytest
from httpx import AsyncClient

from registry.search.plane import Mapper
from registry.service import Registry
from tests.server.admin.conftest import ClientOf, problem

COLUMNS = ("name", "number", "x", "y", "rank", "base", "owner", "namespace", "status", "tags")


async def map_of(client: AsyncClient, by: str = "text") -> dict[str, Any]:
    """Return a map."""
    answer = await client.get("/registry/map", params={"by": by})
    assert 200 == answer.status_code, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize("by", ["text", "weights"])
async def test_columns_have_one_length_and_a_legend(admin: AsyncClient, by: str) -> None:
    """Every adapter has a place in each column, and numbers of a legend's column are in it."""
    told = await map_of(admin, by)
    assert by == told["by"]
    assert "zorp" in told["name"]
    assert {len(told["name"])} == {len(told[column]) for column in COLUMNS}
    assert all(-1.0 <= place <= 1.0 for place in (*told["x"], *told["y"]))
    for column in ("base", "owner", "namespace", "status"):
        assert set(told[column]) == set(range(len(told["legend"][column])))


async def test_tags_and_namespaces_are_named_by_the_legend(
    admin: AsyncClient, private: str, registry: Registry
) -> None:
    """Tags of a point are places in the legend's tags, and a namespace is that of the name."""
    registry.search.descriptions.change_tags(private, add=["law", "eu"], remove=[], actor="ada")
    told = await map_of(admin)
    place = told["name"].index(private)
    assert ["eu", "law"] == [told["legend"]["tags"][tag] for tag in told["tags"][place]]
    assert "other" == told["legend"]["namespace"][told["namespace"][place]]


async def test_a_map_shows_no_more_than_its_caller_sees(client_of: ClientOf, private: str) -> None:
    """What is private to a namespace is on its own maps, and not named elsewhere."""
    theirs = await map_of(await client_of("read", "team"))
    assert private not in theirs["name"]
    assert 0 == theirs["left_out"]
    assert "other" not in theirs["legend"]["namespace"]
    assert private in (await map_of(await client_of("read", "other")))["name"]


async def test_a_map_is_made_once_for_each_revision(
    admin: AsyncClient, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing changes the map is the same answer; a change makes the next one new."""
    made: list[str] = []
    plane = Mapper.plane

    def counted(self: Mapper, kind: Any, caller: Any) -> Any:
        made.append(kind)
        return plane(self, kind, caller)

    monkeypatch.setattr(Mapper, "plane", counted)
    first = await map_of(admin)
    assert first == await map_of(admin)
    registry.search.descriptions.change_tags("zorp", add=["new"], remove=[], actor="ada")
    assert "new" in (await map_of(admin))["legend"]["tags"]
    assert ["text", "text"] == made


async def test_a_map_of_nothing_is_empty(admin: AsyncClient) -> None:
    """Without an embedding of the kind the columns are empty and all adapters are counted."""
    told = await map_of(admin, "behaviour")
    assert (None, []) == (told["encoder"], told["name"])
    assert 0 < told["left_out"]


@pytest.mark.parametrize("query", [{"by": "colour"}, {"by": ""}, {"kind": "text"}])
async def test_other_maps_are_refused(admin: AsyncClient, query: dict[str, str]) -> None:
    """An unknown kind and an unknown parameter are refused."""
    problem(await admin.get("/registry/map", params=query), 400, "invalid_request")
