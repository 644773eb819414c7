"""Rows of the table and points of the map, as values: pure functions, without a page."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from server.console.api.map import AdapterMap
from server.console.api.search import Hit

Colour = Literal["tag", "base", "rank", "owner", "status"]
COLOURED_BY: tuple[Colour, ...] = ("tag", "base", "rank", "owner", "status")
MOST_GROUPS = 11  # what the palette has, but for the last
OTHERS, NONE = "others", "none"


@dataclass(frozen=True, slots=True)
class Row:
    """An adapter's newest version; `score` is None where nothing was asked for."""

    name: str
    number: int
    tags: tuple[str, ...]
    base: str
    rank: int
    owner: str
    status: str
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Filters:
    """What the fields above the table ask for; "" and None ask for nothing."""

    text: str = ""
    like: str = ""
    status: str | None = None
    base: str | None = None
    tag: str | None = None
    owner: str | None = None
    more: str = ""

    @property
    def asks(self) -> bool:
        """Whether the API has to search, rather than list every adapter."""
        return bool(self.text or self.like or self.filter_text)

    @property
    def filter_text(self) -> str:
        """The condition of each field, and what was written, in the API's filter language."""
        fields = {"status": self.status, "base": self.base, "tag": self.tag, "owner": self.owner}
        conditions = [f'{name}="{value}"' for name, value in fields.items() if value]
        return " ".join([*conditions, self.more.strip()]).strip()


def rows_of(points: AdapterMap) -> list[Row]:
    """Return a row for each point of a map."""
    legend = points.legend
    return [
        Row(
            name, number, tuple(legend.tags[tag] for tag in tags), legend.base[base], rank,
            legend.owner[owner], legend.status[status],
        )
        for name, number, tags, base, rank, owner, status in zip(
            points.name, points.number, points.tags, points.base, points.rank, points.owner,
            points.status, strict=True,
        )
    ]  # fmt: skip


def row_of(hit: Hit, *, scored: bool) -> Row:
    """Return the row of a hit."""
    name, _, number = hit.reference.partition("@")
    return Row(
        name, int(number or 0), tuple(hit.tags), hit.base, hit.rank, hit.owner, hit.status,
        hit.score if scored else None,
    )  # fmt: skip


def groups_of(rows: Sequence[Row], by: Colour) -> dict[str, list[int]]:
    """Return the rows' indexes by what colours them: the commonest, the others together.

    An adapter with several tags goes by the one that is commonest.
    """
    counts = Counter(tag for row in rows for tag in row.tags)
    labels = [_label(row, by, counts) for row in rows]
    common = [label for label, _ in Counter(labels).most_common(MOST_GROUPS)]
    if by == "rank":
        common.sort(key=int)
    groups: dict[str, list[int]] = {label: [] for label in common}
    for index, label in enumerate(labels):
        groups.setdefault(label if label in groups else OTHERS, []).append(index)
    return groups


def _label(row: Row, by: Colour, tags: Counter[str]) -> str:
    match by:
        case "tag":
            return max(row.tags, key=lambda tag: (tags[tag], tag), default=NONE)
        case "rank":
            return str(row.rank)
        case "base":
            return row.base
        case "owner":
            return row.owner
        case "status":
            return row.status


def inside(x: Sequence[float], y: Sequence[float], polygon: Sequence[Sequence[float]]) -> list[int]:
    """Return the indexes of the points in a polygon.

    A point is inside if a ray from it to the right crosses the edges an odd number of times.
    """
    px, py = np.asarray(x), np.asarray(y)
    odd = np.zeros(len(px), dtype=bool)
    for (ax, ay), (bx, by) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        crosses = (ay > py) != (by > py)
        height = (by - ay) or 1.0  # of an edge that is level nothing crosses
        odd ^= crosses & (px < (bx - ax) * (py - ay) / height + ax)
    return [int(index) for index in np.flatnonzero(odd)]
