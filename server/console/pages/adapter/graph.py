"""The lineage of a content as a graph: five columns, from what made it to what it made.

Ingredients, the recipes that made it, itself, the recipes that use it, their results. Pure
functions: places of nodes are computed here, as a layout by forces would move at every look.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from server.console.api.adapters import Ingredient, Lineage, Recipe
from server.console.parts.chart import COLOURS, INK, Options, legend
from server.console.parts.text import plain

_INGREDIENT, _MADE_BY, _SELF, _USED_BY, _RESULT = range(5)
_LABELS = ("ingredients", "made by", "this version", "used by", "results")
_LABEL_CHARACTERS = 28
_SHORT = 12  # characters of a digest


@dataclass(frozen=True, slots=True)
class Step:
    """One recipe of a lineage, as the table shows it."""

    direction: str
    method: str
    ingredients: str
    artifact: str | None
    compositions: str
    digest: str


@dataclass(slots=True)
class Graph:
    """Nodes by id, each with its column and its name; edges between ids, each with a name."""

    nodes: dict[str, tuple[int, str]] = field(default_factory=dict)
    edges: dict[tuple[str, str], str] = field(default_factory=dict)


def steps_of(lineage: Lineage) -> list[Step]:
    """Return the recipes of a lineage: those that made it, then those that use it."""
    made = [_step("made it", recipe) for recipe in lineage.made_by]
    return [*made, *(_step("uses it", recipe) for recipe in lineage.used_by)]


def graph_of(lineage: Lineage) -> Graph:
    """Return the graph of a lineage."""
    graph = Graph()
    me = lineage.digest
    graph.nodes[me] = (_SELF, ", ".join(lineage.versions) or me[:_SHORT])
    for recipe in lineage.made_by:
        graph.nodes[recipe.digest] = (_MADE_BY, method_of(recipe))
        graph.edges[recipe.digest, me] = ""
        for ingredient in recipe.ingredients:
            graph.nodes.setdefault(ingredient.digest, (_INGREDIENT, _name_of(ingredient)))
            graph.edges[ingredient.digest, recipe.digest] = f"{ingredient.weight:g}"
    for recipe in lineage.used_by:
        graph.nodes.setdefault(recipe.digest, (_USED_BY, method_of(recipe)))
        weight = next((one.weight for one in recipe.ingredients if one.digest == me), None)
        graph.edges[me, recipe.digest] = "" if weight is None else f"{weight:g}"
        for result in [*recipe.compositions, *([recipe.artifact] if recipe.artifact else [])]:
            name = f"artifact {result[:_SHORT]}" if result == recipe.artifact else result
            graph.nodes.setdefault(result, (_RESULT, name))
            graph.edges[recipe.digest, result] = ""
    return graph


def graph_options(graph: Graph) -> Options:
    """Return the chart of a graph, its nodes placed by column."""
    rows: dict[int, list[str]] = {}
    for node, (column, _) in graph.nodes.items():
        rows.setdefault(column, []).append(node)
    nodes: list[dict[str, Any]] = [
        {
            "id": node, "name": plain(name, 200), "category": column,
            "x": 200 * column, "y": 60 * (at - (len(members) - 1) / 2),
            "label": {"formatter": plain(name, _LABEL_CHARACTERS).replace("{", "(")},
        }
        for column, members in rows.items()
        for at, node in enumerate(members)
        for _, name in [graph.nodes[node]]
    ]  # fmt: skip
    links = [
        {"source": source, "target": target, "value": name, "name": name}
        for (source, target), name in graph.edges.items()
    ]
    return {
        "legend": legend([_LABELS[column] for column in sorted(rows)]),
        "series": [
            {
                "type": "graph", "layout": "none", "roam": "move", "symbolSize": 16,
                "categories": [{"name": label, "itemStyle": {"color": COLOURS[index]}}
                               for index, label in enumerate(_LABELS)],
                "edgeSymbol": ["none", "arrow"], "data": nodes, "links": links,
                "label": {"show": True, "position": "bottom", "color": INK},
                "lineStyle": {"color": INK},
            }
        ],
        "tooltip": {"renderMode": "richText", "confine": True, ":formatter": "p => p.name"},
    }  # fmt: skip


def method_of(recipe: Recipe) -> str:
    """Return the method of a recipe, which is text to the registry."""
    try:
        document: Any = json.loads(recipe.text)
        return str(document["method"])
    except (ValueError, KeyError, TypeError):
        return recipe.digest[:_SHORT]


def _step(direction: str, recipe: Recipe) -> Step:
    return Step(
        direction, method_of(recipe), ", ".join(_weighted(recipe.ingredients)), recipe.artifact,
        ", ".join(recipe.compositions), recipe.digest,
    )  # fmt: skip


def _weighted(ingredients: Sequence[Ingredient]) -> list[str]:
    return [f"{ingredient.weight:g}*{_name_of(ingredient)}" for ingredient in ingredients]


def _name_of(ingredient: Ingredient) -> str:
    return ingredient.versions[0] if ingredient.versions else ingredient.digest[:_SHORT]
