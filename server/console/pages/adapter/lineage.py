"""What made a version and what uses it, as a graph and as a table."""

from nicegui import ui
from nicegui.events import EChartPointClickEventArguments

from server.console.addresses import adapter_page
from server.console.api.adapters import lineage
from server.console.page import PageContext
from server.console.pages.adapter.graph import Step, graph_of, graph_options, steps_of
from server.console.parts.chart import chart
from server.console.parts.empty import empty
from server.console.parts.section import Section
from server.console.parts.table import Column
from server.console.parts.text import tagged


def draw_lineage(page: PageContext, digest: str) -> None:
    """Draw the lineage of a content, both ways; a version in it leads to its page."""
    tagged("h2", "Lineage").classes("text-lg font-bold")

    async def build() -> None:
        found = await lineage(page.api, digest)
        if not (found.made_by or found.used_by):
            empty("No merge made this version, and none uses it.")
            return
        if found.next_cursor is not None:
            tagged("p", f"These are the first {len(found.used_by)} recipes that use it.")
        graph = graph_of(found)

        def open_node(event: EChartPointClickEventArguments) -> None:
            reference = event.name or ""
            if "@" in reference and "," not in reference:
                ui.navigate.to(adapter_page(reference))

        chart(
            "What made it, and what uses it", graph_options(graph), _COLUMNS, steps_of(found),
            on_point=open_node, height=f"{min(12 + 3 * len(graph.nodes), 40)}rem",
        )  # fmt: skip

    Section(build)


_COLUMNS = [
    Column[Step]("Which", lambda step: step.direction),
    Column[Step]("Method", lambda step: step.method),
    Column[Step]("Ingredients", lambda step: step.ingredients),
    Column[Step]("Compositions", lambda step: step.compositions),
    Column[Step]("Artifact", lambda step: step.artifact and step.artifact[:12]),
    Column[Step]("Recipe", lambda step: step.digest[:12]),
]
