"""Artifacts: merged adapters, what they were made of, and their removal from disk and engines."""

import json
from collections.abc import Awaitable, Callable

from nicegui import ui

from server.console.api.files import Artifact, ArtifactDetail, artifact, artifacts, remove_artifact
from server.console.page import Page, PageContext
from server.console.parts.confirm import confirmed
from server.console.parts.empty import empty
from server.console.parts.facts import facts
from server.console.parts.refusal import attempt
from server.console.parts.section import Section
from server.console.parts.table import Column, cursor_table
from server.console.parts.text import long_text, tagged
from server.console.parts.units import moment, size


def build(page: PageContext) -> None:
    """Show the artifacts that the key may see."""
    cursor_table(
        "Artifacts", _COLUMNS, lambda at: artifacts(page.api, at),
        lambda: empty(
            "Nothing was merged yet. A merge is made when a request names a composition.",
            do="Compose one", href="/compose",
        ),
    )  # fmt: skip


def build_one(page: PageContext) -> None:
    """Show one artifact: its files, its recipes, the report of its merge and its canary."""

    async def draw() -> None:
        shown = await artifact(page.api, page.parameters["digest"])
        _draw_artifact(page, shown, section.load)

    section = Section(draw)


def _draw_artifact(
    page: PageContext, shown: ArtifactDetail, reload: Callable[[], Awaitable[None]]
) -> None:
    canary = shown.canary
    facts({
        "Digest": shown.digest, "Size": size(shown.bytes), "Merged in": f"{shown.seconds:.2f} s",
        "Made": moment(shown.created_at), "On disk": "yes" if shown.on_disk else
        "no: the next request builds it again",
        "Canary": "" if canary is None else
        f"{'passed' if canary.passed else 'failed'}, {canary.asked} prompts, "
        f"{moment(canary.created_at)}",
    })  # fmt: skip
    if canary is not None and canary.failures:
        for failure in canary.failures:
            tagged("p", f"Prompt {failure.number}: expected {failure.expected}, answered "
                        f"{failure.answer}", 600)  # fmt: skip
    for recipe in shown.recipes:
        tagged("h2", f"Recipe {recipe.digest}").classes("font-bold")
        if recipe.compositions:
            tagged("p", f"Compositions: {', '.join(recipe.compositions)}", 1000)
        long_text(recipe.text, "Recipe")
    tagged("h2", "Report of the merge").classes("font-bold")
    long_text(json.dumps(shown.report, indent=2, ensure_ascii=False), "Report of the merge")
    if page.who.operates:
        _draw_removal(page, shown, reload)


def _draw_removal(
    page: PageContext, shown: ArtifactDetail, reload: Callable[[], Awaitable[None]]
) -> None:
    async def ask() -> None:
        question = "Remove this artifact from the engines, the disk and the object store?"
        if await confirmed(question, do="Remove it") and await attempt(
            lambda: remove_artifact(page.api, shown.digest)
        ):
            ui.notify("The artifact is removed. A later request builds it again.")
            await reload()

    ui.button("Remove the artifact", on_click=ask).props("outline no-caps")


def _made_of(item: Artifact) -> str:
    return ", ".join(name for recipe in item.recipes for name in recipe.compositions)


_COLUMNS = [
    Column[Artifact](
        "Digest", lambda item: item.digest, href=lambda item: f"/registry/artifacts/{item.digest}"
    ),
    Column[Artifact]("Compositions", lambda item: _made_of(item) or "unnamed"),
    Column[Artifact]("Size", lambda item: size(item.bytes)),
    Column[Artifact]("Merged in, s", lambda item: item.seconds),
    Column[Artifact]("On disk", lambda item: item.on_disk),
    Column[Artifact]("Made", lambda item: moment(item.created_at)),
]
ARTIFACT = Page("/registry/artifacts/{digest}", "Artifact", build_one)
