"""How moments and sizes are written."""

from datetime import UTC, datetime

_UNITS = ("B", "kB", "MB", "GB", "TB")


def moment(at: datetime | None) -> str:
    """Return a moment to the second, in UTC; empty where there is none."""
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def size(count: int) -> str:
    """Return a number of bytes with a unit."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g} {_UNITS[unit]}" if unit else f"{count} B"
