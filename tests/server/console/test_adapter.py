"""The page of one adapter."""

from nicegui import ui
from nicegui.testing import User

from registry.service import Registry
from server.console.api.adapters import (
    Evaluation,
    Facts,
    Ingredient,
    Lineage,
    Module,
    Recipe,
    Report,
    VersionDetail,
)
from server.console.pages.adapter.evaluations import over_versions
from server.console.pages.adapter.graph import graph_of, graph_options, steps_of
from server.console.pages.adapter.modules import module_rows, over_layers
from server.gateway import Gateway
from tests.server.console.conftest import SignIn, answering, console_on

A, B, C, R, S = ("a" * 64, "b" * 64, "c" * 64, "d" * 64, "e" * 64)
MOMENT = "2026-11-29T18:00:00Z"
HOSTILE = "<script>alert(1)</script>\u202eevil {{ 7 * 7 }}"
VERSION = {
    "number": 1, "digest": A, "rank": 8, "bytes": 1000, "norm": 2.0, "status": "admitted",
    "status_reason": None, "created_at": MOMENT, "created_by": "ada", "base": "llama",
    "source": None, "licence": None, "dtypes": ["BF16"], "use_rslora": False,
    "peft_version": None, "card": HOSTILE + "x" * 200_000, "modules": {},
    "report": {"findings": []},
}  # fmt: skip


async def test_one_adapter_is_shown(user: User) -> None:
    """The page has what a version is, its card, its modules as charts, and its aliases."""
    await user.open("/adapters/zorp")
    await user.should_see("weft/demo-llama", retries=50)
    await user.should_see("this adapter answers what comes of")
    await user.should_see("Norm of each update over layers")
    await user.should_see("prod", retries=50)
    charts = user.find(ui.echart).elements
    assert {7} == {len(chart.options["series"]) for chart in charts}  # kinds of modules
    await user.should_see("Likeness by weights", retries=50)
    await user.should_see("alias.moved", retries=50)


async def test_an_unknown_name_is_told_with_near_ones(user: User) -> None:
    """The page of a name that is not registered shows the API's words."""
    await user.open("/adapters/zorb")
    await user.should_see("Near names: zorp", retries=50)


async def test_a_name_in_a_namespace_has_a_page(user: User) -> None:
    """The slash of a name is part of the page's address."""
    await user.open("/adapters/team/legal?version=3")
    await user.should_see("Nothing is registered as 'team/legal'", retries=50)


async def test_an_alias_is_moved_after_a_question(user: User, registry: Registry) -> None:
    """The question says what will follow; the move is done and shown, here and in its history."""
    await user.open("/adapters/zorp")
    user.find(marker="alias").type("canary")
    (version,) = user.find(kind=ui.number, marker="version").elements
    version.value = 1
    user.find(marker="move").click()
    await user.should_see("Point zorp@canary to version 1?", retries=20)
    user.find(kind=ui.button, content="Move").click()
    await user.should_see(marker="cell", content="canary", retries=50)
    moved = registry.catalogue.aliases("zorp", cursor=None, limit=10)
    assert {"canary": 1, "prod": 1} == {alias.alias: alias.number for alias in moved.items}


async def test_a_refused_move_is_told_in_the_words_of_the_api(user: User) -> None:
    """What the API refuses is shown, and nothing is moved."""
    await user.open("/adapters/zorp")
    user.find(marker="alias").type("canary")
    (version,) = user.find(kind=ui.number, marker="version").elements
    version.value = 7
    user.find(marker="move").click()
    await user.should_see("Point zorp@canary to version 7?", retries=20)
    user.find(kind=ui.button, content="Move").click()
    await user.should_see("zorp@7", retries=50)


async def test_who_may_not_move_sees_no_button(sign_in: SignIn, registry: Registry) -> None:
    """A key that only reads, or of another namespace, sees aliases but no form."""
    for role, namespace in (("read", None), ("publish", "team")):
        _, key = registry.access.keys.create(
            f"{namespace}/{role}" if namespace else role, role=role,  # type: ignore[arg-type]
            namespace=namespace, all_namespaces=namespace is None,
        )  # fmt: skip
        user = await sign_in(key)
        await user.open("/adapters/zorp")
        await user.should_see("Where aliases point", retries=50)
        await user.should_not_see("Point alias to version", retries=1)


async def test_hostile_cards_are_text(gateway: Gateway) -> None:
    """A card of 200 kB with markup, a template and an override of direction shows as text."""
    adapter = {
        "name": "evil", "visibility": "public", "tags": [], "aliases": {}, "number": 1, "digest": A,
        "status": "admitted",
    }  # fmt: skip
    answers = {"/adapters/evil": adapter, "/versions/1": VERSION}
    async with console_on(gateway, transport=answering(answers)) as browser:
        user = browser()
        await user.open("/adapters/evil")
        await user.should_see("<script>alert(1)</script>⟨U+202E⟩evil {{ 7 * 7 }}", retries=50)
        await user.should_see("Show more")
        await user.should_see("nothing at /registry/adapters/evil/-/aliases", retries=50)


async def test_the_lineage_is_shown_both_ways(gateway: Gateway) -> None:
    """What made a version and what uses it is a graph, whose versions lead to their pages."""
    adapter = {
        "name": "me", "visibility": "public", "tags": [], "aliases": {}, "number": 1, "digest": A,
        "status": "admitted",
    }  # fmt: skip
    answers = {
        "/adapters/me": adapter, "/versions/1": VERSION, f"/lineage/{A}": LINEAGE.model_dump(),
    }  # fmt: skip
    async with console_on(gateway, transport=answering(answers)) as browser:
        user = browser()
        await user.open("/adapters/me")
        await user.should_see("What made it, and what uses it", retries=50)
        args = {
            "componentType": "series", "seriesType": "graph", "seriesIndex": 0, "seriesName": "",
            "name": "b@1", "dataIndex": 0, "data": {}, "value": None,
        }  # fmt: skip
        (graph,) = [
            one for one in user.find(ui.echart).elements
            if one.options["series"] and one.options["series"][0]["type"] == "graph"
        ]  # fmt: skip
        graph.mark("graph")
        user.find(marker="graph").trigger("componentClick", args)
        await user.should_see("nothing at /registry/adapters/b", retries=50)


def recipe(digest: str, *ingredients: tuple[str, str], artifact: str | None = None) -> Recipe:
    """Return a recipe of ingredients by digest and name."""
    return Recipe(
        digest=digest, text='{"method": "ties"}', artifact=artifact, compositions=["mix@1"],
        ingredients=[Ingredient(digest=d, weight=0.5, versions=[name]) for d, name in ingredients],
    )  # fmt: skip


LINEAGE = Lineage(
    digest=A, versions=["me@1"], made_by=[recipe(R, (B, "b@1"), (C, "c@2"), artifact=A)],
    used_by=[recipe(S, (A, "me@1"), (B, "b@1"), artifact="f" * 64)], next_cursor=None,
)  # fmt: skip


def test_a_lineage_is_a_graph() -> None:
    """Nodes stand in five columns, and edges lead from what made to what was made."""
    graph = graph_of(LINEAGE)
    assert {B: 0, C: 0, R: 1, A: 2, S: 3, "mix@1": 4, "f" * 64: 4} == {
        node: column for node, (column, _) in graph.nodes.items()
    }
    assert {(B, R), (C, R), (R, A), (A, S), (S, "mix@1"), (S, "f" * 64)} == set(graph.edges)
    assert "0.5" == graph.edges[B, R]
    assert [("made it", "0.5*b@1, 0.5*c@2"), ("uses it", "0.5*me@1, 0.5*b@1")] == [
        (step.direction, step.ingredients) for step in steps_of(LINEAGE)
    ]


def test_no_node_hides_another() -> None:
    """Each node of a graph has a place of its own."""
    (series,) = graph_options(graph_of(LINEAGE))["series"]
    places = [(node["x"], node["y"]) for node in series["data"]]
    assert len(places) == len(set(places)) == 7


def test_a_recipe_that_is_no_json_is_called_by_its_digest() -> None:
    """The text of a recipe is the merge engine's; what cannot be read has its digest as a name."""
    broken = recipe(R, (B, "b@1")).model_copy(update={"text": "]"})
    graph = graph_of(LINEAGE.model_copy(update={"made_by": [broken], "used_by": []}))
    assert R[:12] == graph.nodes[R][1]


def detail(**modules: tuple[int, float | None]) -> VersionDetail:
    """Return a version with modules of these ranks and norms; `__` stands for a dot."""
    named = {name.replace("__", "."): of for name, of in modules.items()}
    norms = {name: norm for name, (_, norm) in named.items() if norm is not None}
    return VersionDetail.model_validate(
        {
            **VERSION,
            "modules": {
                name: Module(rank=rank, d_in=4, d_out=4, alpha=1.0)
                for name, (rank, _) in named.items()
            },
            "report": Report(facts=Facts(norms=norms)),
        }
    )


def test_modules_are_lines_over_layers() -> None:
    """Each kind of module is a line; a layer without it, or without a norm, leaves a gap."""
    rows = module_rows(
        detail(layers__0__q=(8, 1.0), layers__2__q=(4, None), layers__2__v=(4, 0.5), head=(2, 9.0))
    )
    assert [None, 0, 2, 2] == [row.layer for row in rows]
    options = over_layers(rows, lambda row: row.norm, "norm")
    assert ["0", "2"] == options["xAxis"]["data"]
    assert {"q": [1.0, None], "v": [None, 0.5]} == {
        line["name"]: line["data"] for line in options["series"]
    }


def test_the_newest_value_of_a_version_is_drawn() -> None:
    """Evaluations are lines over versions by data set and metric, of the newest values."""
    measured = [
        Evaluation(
            reference=f"team/a@{number}", dataset="d", metric=metric, value=value, n=None,
            measured_at=MOMENT, created_by="ada",
        )
        for number, metric, value in
        ((2, "f1", 0.9), (10, "f1", 0.7), (2, "f1", 0.1), (2, "loss", 3.0))
    ]  # fmt: skip
    options = over_versions(measured)
    assert ["2", "10"] == options["xAxis"]["data"]
    assert [[0.9, 0.7], [3.0, None]] == [line["data"] for line in options["series"]]
