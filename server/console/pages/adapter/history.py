"""The versions of an adapter, and who changed what."""

import json

from server.console.addresses import adapter_page
from server.console.api.adapters import Change, Version, changes, versions
from server.console.page import PageContext
from server.console.parts.empty import empty
from server.console.parts.table import Column, cursor_table
from server.console.parts.text import tagged


def draw_versions(page: PageContext, name: str) -> None:
    """Draw the versions of a name, retired ones too; each leads to its page."""
    tagged("h2", "Versions").classes("text-lg font-bold")
    cursor_table(
        "All versions, newest first",
        [
            Column[Version](
                "Version", lambda version: version.number,
                href=lambda version: adapter_page(f"{name}@{version.number}"),
            ),
            Column[Version]("Rank", lambda version: version.rank),
            Column[Version]("Norm", lambda version: version.norm),
            Column[Version]("Status", lambda version: version.status),
            Column[Version]("Registered", lambda version: f"{version.created_at:%Y-%m-%d %H:%M}"),
            Column[Version]("By", lambda version: version.created_by),
            Column[Version]("Digest", lambda version: version.digest[:12]),
        ],
        lambda cursor: versions(page.api, name, cursor),
        lambda: empty("This adapter has no version."),
    )  # fmt: skip


def draw_changes(page: PageContext, name: str) -> None:
    """Draw who changed what, newest first."""
    tagged("h2", "Changes").classes("text-lg font-bold")
    cursor_table(
        "Who changed what",
        [
            Column[Change]("At", lambda change: f"{change.at:%Y-%m-%d %H:%M:%S}"),
            Column[Change]("Who", lambda change: change.actor),
            Column[Change]("What", lambda change: change.action),
            Column[Change]("Of", lambda change: change.subject),
            Column[Change]("Details", lambda change: json.dumps(change.detail)),
        ],
        lambda cursor: changes(page.api, name, cursor),
        lambda: empty("No change is recorded."),
    )
