"""Facts about one thing: a list of terms and their values."""

from collections.abc import Mapping

from nicegui import ui

from server.console.parts.text import tagged


def facts(values: Mapping[str, str]) -> None:
    """Show each value beside its term; values are text of others, and empty ones are left out."""
    with ui.element("dl").classes("weft-facts"):
        for term, value in values.items():
            if value:
                tagged("dt", term)
                tagged("dd", value, 1000)
