"""The page of one adapter, put together: what it is, and its parts one after the other."""

from nicegui import ui

from server.console.addresses import compare_page, compose_page
from server.console.api.adapters import Adapter, VersionDetail, adapter, examples, version
from server.console.page import PageContext
from server.console.pages.adapter.aliases import draw_aliases
from server.console.pages.adapter.evaluations import draw_evaluations
from server.console.pages.adapter.history import draw_changes, draw_versions
from server.console.pages.adapter.likeness import draw_likeness
from server.console.pages.adapter.lineage import draw_lineage
from server.console.pages.adapter.modules import draw_findings, draw_modules
from server.console.parts.empty import empty
from server.console.parts.facts import facts
from server.console.parts.section import Section
from server.console.parts.text import long_text, tagged


def build(page: PageContext) -> None:
    """Draw the page of an adapter: first what one version is, then what the name has."""
    name = page.parameters["name"]

    async def build_version() -> None:
        found = await adapter(page.api, name)
        asked = page.parameters.get("version", "")
        number = int(asked) if asked.isdecimal() else found.number
        shown = await version(page.api, name, number)
        _draw_head(found, shown)
        _draw_card(shown)
        draw_findings(shown)
        draw_modules(shown)
        draw_lineage(page, shown.digest)

    Section(build_version)
    draw_aliases(page, name)
    draw_versions(page, name)
    draw_evaluations(page, name)
    draw_likeness(page, name)
    _draw_examples(page, name)
    draw_changes(page, name)


def _draw_head(found: Adapter, shown: VersionDetail) -> None:
    reference = f"{found.name}@{shown.number}"
    with ui.row().classes("items-center"):
        tagged("h2", f"Version {shown.number}").classes("text-lg font-bold")
        ui.link("Compose with it", compose_page(reference))
        ui.link("Compare with its base", compare_page(shown.base, reference))
    facts(
        {
            "Status": shown.status + (f": {shown.status_reason}" if shown.status_reason else ""),
            "Visible to": "all namespaces" if found.visibility == "public" else "its namespace",
            "Tags": ", ".join(found.tags) or "none",
            "Base": shown.base,
            "Rank": str(shown.rank),
            "Modules": str(len(shown.modules)),
            "Norm": f"{shown.norm:.4g}",
            "Size": f"{shown.bytes / 1e6:.1f} MB, {', '.join(shown.dtypes)}",
            "Scale": "rsLoRA" if shown.use_rslora else "alpha / rank",
            "Licence": shown.licence or "not said",
            "Source": shown.source or "not said",
            "Made with": f"PEFT {shown.peft_version}" if shown.peft_version else "not said",
            "Registered": f"{shown.created_at:%Y-%m-%d %H:%M} by {shown.created_by}",
            "Digest": shown.digest,
        }
    )


def _draw_card(shown: VersionDetail) -> None:
    tagged("h2", "Card").classes("text-lg font-bold")
    if shown.card:
        long_text(shown.card, "Card")
    else:
        empty("This version has no card: its folder had no README.md.")


def _draw_examples(page: PageContext, name: str) -> None:
    tagged("h2", "Examples").classes("text-lg font-bold")

    async def build_examples() -> None:
        requests = await examples(page.api, name)
        if not requests:
            empty(
                "No request describes this adapter; search and auto() use such.",
                command=f"weft adapters examples {name} FILE",
            )
            return
        long_text("\n\n".join(requests), "Examples")

    Section(build_examples)
