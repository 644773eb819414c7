"""The page of all adapters."""

import asyncio
from collections.abc import Callable

import pytest
from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement
from nicegui.testing import User

from registry.service import Registry
from server.console.api.map import AdapterMap
from server.console.pages.adapters.map import map_options
from server.console.pages.adapters.rows import (
    NONE,
    OTHERS,
    Filters,
    Row,
    groups_of,
    inside,
    rows_of,
)  # fmt: skip
from server.gateway import Gateway
from tests.server.console.conftest import ADMIN, answering, console_on

SQUARE = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]


def cells(user: User) -> list[str]:
    """Return the texts of the cells that are shown, in order."""
    found = user.find(kind=TextElement, marker="cell").elements
    return [cell.text for cell in sorted(found, key=lambda cell: cell.id)]


def links(user: User) -> list[str]:
    """Return the texts of the links of a page, in order."""
    return [link.text for link in sorted(user.find(ui.link).elements, key=lambda one: one.id)]


def points(**columns: object) -> AdapterMap:
    """Return a map of three adapters."""
    return AdapterMap.model_validate(
        {
            "by": "text", "left_out": 0, "name": ["a", "b", "c"], "number": [1, 2, 1],
            "x": [0.5, 2.0, -1.0], "y": [0.5, 0.5, 0.0], "rank": [16, 8, 8], "base": [0, 0, 0],
            "owner": [0, 1, 0], "status": [0, 0, 1], "tags": [[0, 1], [1], []],
            "legend": {"base": ["llama"], "owner": ["ada", "bob"],
                       "status": ["admitted", "quarantined"], "tags": ["law", "sql"]},
        } | columns
    )  # fmt: skip


async def test_all_adapters_are_listed_and_sorted(user: User) -> None:
    """The table has every adapter, and a button of its head sorts it as numbers."""
    await user.open("/")
    await user.should_see("zorp", retries=20)
    assert {"blim", "dwen", "frob", "glix", "krun", "plov", "tref", "zorp"} <= set(links(user))
    user.find(kind=ui.button, content="Rank").click()
    ranks = [text for text in cells(user) if text.isdecimal()][1::2]
    assert ranks == sorted(ranks, key=int)


async def test_search_as_you_type_asks_the_api(user: User) -> None:
    """A text is searched, and its hits come with their scores."""
    await user.open("/")
    await user.should_see("zorp", retries=20)
    user.find(marker="search").type("zorp")
    await user.should_see("Score", retries=20)
    assert "zorp" in links(user)


async def test_a_filter_is_checked_by_the_api(user: User) -> None:
    """What cannot be parsed is told in the API's words, with its position."""
    await user.open("/")
    user.find(marker="filter").type("rank<")
    await user.should_see("a whole number", retries=20)


async def test_a_filter_without_a_match_says_what_to_do(user: User) -> None:
    """An empty result offers all adapters again."""
    await user.open("/")
    user.find(marker="filter").type("rank>1000")
    await user.should_see("No adapter matches", retries=20)
    await user.should_see("Show all")


async def test_a_tag_filters(user: User, registry: Registry) -> None:
    """The tags that adapters have are offered, and one of them filters."""
    registry.search.descriptions.change_tags("zorp", add=["made-up"], remove=[], actor="test")
    await user.open("/")
    await user.should_see("made-up", retries=20)
    (tag,) = user.find(kind=ui.select, marker="tag").elements
    tag.value = "made-up"
    for _ in range(50):
        if "blim" not in links(user):
            break
        await asyncio.sleep(0.05)
    assert "zorp" in links(user)
    assert "blim" not in links(user)


async def test_near_duplicates_are_told(gateway: Gateway) -> None:
    """`?like=NAME` lists what is like an adapter, and says which have nearly the same weights."""
    hit = {"base": "llama", "rank": 8, "licence": None, "tags": [], "owner": "ada",
           "status": "admitted", "created_at": "2026-11-29T18:00:00Z"}  # fmt: skip
    hits = [
        {**hit, "reference": "twin@1", "score": 0.9995},
        {**hit, "reference": "c@2", "score": 0.5},
    ]
    transport = answering({"/search": {"hits": hits}, "/map": points().model_dump()})
    async with console_on(gateway, transport=transport) as browser:
        user = browser()
        await user.open("/?like=zorp")
        await user.should_see("1.000 near-duplicate", retries=20)
        await user.should_see("0.500")
        await user.should_see("Adapters like zorp")


async def test_picked_adapters_are_composed(user: User) -> None:
    """What is picked in the table leads to the page that composes them."""
    await user.open("/")
    await user.should_see("zorp", retries=20)
    for box in sorted(user.find(ui.checkbox).elements, key=lambda box: box.id)[:2]:
        box.value = True
    (compose,) = user.find(marker="compose").elements
    assert "/compose?model=linear%28blim%2C+dwen%29" == compose.props["href"]
    user.find("Clear").click()
    await user.should_see("Pick adapters in the table")


async def test_the_lasso_picks_what_is_in_it(user: User) -> None:
    """The corners of a lasso pick the points inside, and no others."""
    await user.open("/")
    await user.should_see(ui.echart, retries=20)
    (chart,) = user.find(ui.echart).elements
    series = [one for one in chart.options["series"] if one["data"]]
    x, y, card = series[0]["data"][0]
    around = [
        [x - 1e-3, y - 1e-3],
        [x + 1e-3, y - 1e-3],
        [x + 1e-3, y + 1e-3],
        [x - 1e-3, y + 1e-3],
    ]
    user.find(ui.echart).trigger("chart:brushEnd", {"areas": [{"coordRange": around}]})
    await user.should_see(f"1 picked: {card.partition(chr(10))[0]}")


async def test_a_row_marks_its_point_and_a_point_opens_its_page(user: User) -> None:
    """A click on a point opens the adapter's page."""
    await user.open("/")
    await user.should_see(ui.echart, retries=20)
    args = {"componentType": "series", "seriesType": "scatter", "seriesIndex": 0, "seriesName": "",
            "name": "", "dataIndex": 0, "data": [0, 0, "zorp\nrank 8"], "value": None}  # fmt: skip
    user.find(ui.echart).trigger("componentClick", args)
    await user.should_see("Version 1", retries=20)
    assert "/adapters/zorp" == user.back_history[-1]


async def test_an_empty_registry_says_what_to_do(gateway: Gateway) -> None:
    """Without adapters the page names the command that imports one, to a key that may."""
    columns = ("name", "number", "x", "y", "rank", "base", "owner", "status", "tags")
    nothing = points(**{column: [] for column in columns}).model_dump()
    reader = {**ADMIN, "role": "read"}
    for who, text in ((ADMIN, "weft adapters import FOLDER"), (reader, "Your key cannot see")):
        async with console_on(gateway, transport=answering({"/map": nothing}, who)) as browser:
            user = browser()
            await user.open("/")
            await user.should_see(text, retries=20)


@pytest.mark.parametrize(
    ("x", "y", "found"), [(0.5, 0.5, [0]), (1.5, 0.5, []), (0.5, -0.1, []), (0.01, 0.99, [0])]
)
def test_inside(x: float, y: float, found: list[int]) -> None:
    """A point is inside if and only if the polygon surrounds it."""
    assert found == inside([x], [y], SQUARE)


def test_inside_a_polygon_with_a_notch() -> None:
    """A point in a notch is outside."""
    notched = [(0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (1.0, 0.5), (0.0, 2.0)]
    assert [1, 2] == inside([1.0, 0.2, 1.0], [1.5, 1.0, 0.2], notched)


def test_rows_read_the_columns() -> None:
    """A row has what the numbers of the columns stand for."""
    row = rows_of(points())[0]
    assert Row("a", 1, ("law", "sql"), "llama", 16, "ada", "admitted") == row


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("tag", {"sql": [0, 1], NONE: [2]}),
        ("rank", {"8": [1, 2], "16": [0]}),
        ("owner", {"ada": [0, 2], "bob": [1]}),
        ("status", {"admitted": [0, 1], "quarantined": [2]}),
        ("base", {"llama": [0, 1, 2]}),
    ],
)
def test_groups(by: str, groups: dict[str, list[int]]) -> None:
    """Adapters go by their commonest tag; ranks are in the order of numbers."""
    assert groups == groups_of(rows_of(points()), by)  # type: ignore[arg-type]


def test_rare_groups_go_together() -> None:
    """Beyond the colours of the palette, groups are the others."""
    rows = [Row(f"a{index}", 1, (), "b", 8, f"owner{index}", "admitted") for index in range(20)]
    groups = groups_of(rows, "owner")
    assert 9 == len(groups[OTHERS])
    assert 12 == len(groups)


def test_ten_thousand_points_are_drawn_as_many() -> None:
    """Above a thousand points every series is in ECharts' large mode."""
    of: Callable[[int], AdapterMap] = lambda count: points(  # noqa: E731
        name=[f"a{index}" for index in range(count)], number=[1] * count, x=[0.0] * count,
        y=[0.0] * count, rank=[8] * count, base=[0] * count, owner=[0] * count,
        status=[0] * count, tags=[[index % 2] for index in range(count)],
    )  # fmt: skip
    for count, large in ((1000, False), (10_000, True)):
        drawn = of(count)
        series = map_options(drawn, rows_of(drawn), "tag")["series"]
        assert [large, large] == [one["large"] for one in series[:2]]


def test_filters_are_written_in_the_language_of_the_api() -> None:
    """Each field is a condition, with its value in quotes; what was written comes last."""
    filters = Filters(status="admitted", tag="law", more=" rank<=16 ")
    assert 'status="admitted" tag="law" rank<=16' == filters.filter_text
    assert not Filters().asks
