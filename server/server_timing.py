"""The `Server-Timing` header as a client reads it. Standard library only."""


def parse_server_timing(header: str) -> dict[str, float]:
    """Return the milliseconds of each stage in a `Server-Timing` header."""
    stages = {}
    for part in header.split(","):
        name, _, duration = part.strip().partition(";dur=")
        if duration:
            stages[name] = float(duration)
    return stages
