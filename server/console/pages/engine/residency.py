"""What engines have in memory, and merges in flight, as rows of tables."""

from dataclasses import dataclass

from server.console.api.engines import Build, Engine, Engines

_DIGEST = 12  # characters that are enough to find it


@dataclass(frozen=True, slots=True)
class Loaded:
    """An adapter in an engine's memory."""

    engine: str
    models: str
    digest: str
    running: int
    leases: int


def engine_name(engine: Engine) -> str:
    """Return what an engine is called: its URL for operators, else its base."""
    return engine.name or f"engine of {engine.base}"


def engine_state(engine: Engine) -> str:
    """Return whether an engine takes requests."""
    return "available" if engine.available else "starting, restarting or lost"


def loaded(state: Engines) -> list[Loaded]:
    """Return what is loaded where, the busiest first."""
    listed = [
        Loaded(
            engine_name(engine), ", ".join(each.models) or "an unnamed merge", each.digest,
            each.running, each.leases,
        )
        for engine in state.engines
        for each in engine.resident
    ]  # fmt: skip
    return sorted(listed, key=lambda row: (-row.running, -row.leases, row.models))


def hidden(state: Engines) -> int:
    """Return the number of loaded adapters that the key may not see."""
    return sum(engine.hidden for engine in state.engines)


def build_state(build: Build) -> str:
    """Return what a merge does, and for how long."""
    return f"{build.state} for {build.seconds:.1f} s"


def hit_share(state: Engines) -> str:
    """Return how many compositions were merged already when they were asked for."""
    asked = state.merge_hits + state.merge_misses
    share = f" ({100 * state.merge_hits / asked:.0f} %)" if asked else ""
    return f"hits: {state.merge_hits:,}, misses: {state.merge_misses:,}{share}"


def short(digest: str) -> str:
    """Return the beginning of a digest."""
    return digest[:_DIGEST]
