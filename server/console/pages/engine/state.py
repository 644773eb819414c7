"""The engines, what is loaded where, and the merges in flight, as they change."""

from nicegui import ui

from server.console.api.engines import Build, Engine, Engines, Pool
from server.console.pages.engine.residency import (
    Loaded,
    build_state,
    engine_name,
    engine_state,
    hidden,
    hit_share,
    loaded,
)
from server.console.parts.facts import facts
from server.console.parts.table import Column, Table
from server.console.parts.text import tagged
from server.console.parts.units import size

_ENGINES = [
    Column[Engine]("Engine", engine_name),
    Column[Engine]("Base", lambda engine: engine.base),
    Column[Engine]("State", engine_state),
    Column[Engine]("Loaded", lambda engine: len(engine.resident) + engine.hidden),
    Column[Engine]("Slots", lambda engine: engine.slots),
    Column[Engine]("Running requests", lambda engine: engine.running),
    Column[Engine]("Restarts", lambda engine: engine.restarts),
]
_LOADED = [
    Column[Loaded]("Model", lambda row: row.models),
    Column[Loaded]("Engine", lambda row: row.engine),
    Column[Loaded]("Running requests", lambda row: row.running),
    Column[Loaded]("Leases", lambda row: row.leases),
    Column[Loaded]("Digest", lambda row: row.digest),
]
_BUILDS = [
    Column[Build]("Recipe", lambda build: build.recipe),
    Column[Build]("Method", lambda build: build.method),
    Column[Build]("State", build_state),
    Column[Build]("Waiting requests", lambda build: build.waiters),
    Column[Build]("Asked by", lambda build: build.caller),
]
_POOLS = [
    Column[Pool]("Pool of threads", lambda pool: pool.pool),
    Column[Pool]("Calls", lambda pool: pool.calls),
    Column[Pool]("Limit", lambda pool: pool.limit),
]


class EngineState:
    """The state of the engines in elements that are drawn once."""

    def __init__(self, state: Engines) -> None:
        self._engines = Table("Engines", _ENGINES, ())
        self._loaded = Table("Loaded adapters", _LOADED, ())
        self._hidden = tagged("p", "")
        tagged("h2", "Merges and the queue").classes("text-lg font-bold")
        self._facts = ui.column().classes("w-full")
        self._builds = Table("Merges in flight", _BUILDS, ())
        with ui.expansion("Pools of threads").classes("w-full"):
            self._pools = Table("Pools of threads", _POOLS, ())
        self.show(state)

    def show(self, state: Engines) -> None:
        """Show a state."""
        self._engines.show(state.engines, stay=True)
        self._loaded.show(loaded(state), stay=True)
        self._hidden.set_text(_hidden_text(state))
        self._builds.show(state.builds, stay=True)
        self._pools.show(state.pools, stay=True)
        self._facts.clear()
        with self._facts:
            facts(_facts_of(state))


def _facts_of(state: Engines) -> dict[str, str]:
    return {
        "Merges": f"running: {state.builds_running}, waiting: {state.builds_waiting}, "
                  f"workers: {state.merge_workers}",
        "Compositions": hit_share(state),
        "Loads into engines": f"{state.loads:,}",
        "Leases": f"{state.leases:,} requests use an artifact",
        "Artifacts on disk": size(state.artifact_bytes),
        "Requests that engines lost": f"{state.lost_requests:,}",
    }  # fmt: skip


def _hidden_text(state: Engines) -> str:
    """Return what the tables of loaded adapters leave out, or why they are empty."""
    count = hidden(state)
    if count:
        return f"{count} more are loaded, which your key may not see."
    if not loaded(state):
        return "No adapter is loaded. The first request that names one loads it."
    return ""
