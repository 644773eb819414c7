"""Supervisors over a stub program, which replaces vLLM."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from server.engine.launch import Supervisor
from server.engine.link import Endpoint
from server.engine.protocol import EngineUnavailable
from server.engine.remote import Remote
from server.settings import Settings
from tests.server import stub_engine

Prove = Callable[[Endpoint], Awaitable[None]]


class Stub:
    """Starts supervisors over the stub program; `mode` applies to the next start."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder, self._settings, self.mode = folder, settings, "serves"
        self.supervisors: list[Supervisor] = []

    def command(self, _settings: Settings, port: int, _host: str) -> list[str]:
        """Replace `engine_command`."""
        if self.mode == "missing":
            return [str(self._folder / "no-such-programme")]
        return [sys.executable, stub_engine.__file__, str(port), str(self.pid_file), self.mode]

    def supervisor(self, prove: Prove | None = None) -> Supervisor:
        """Return a supervisor that is not started."""
        log_path = self._folder / "logs" / "engine.log"
        made = Supervisor(self._settings, log_path=log_path, prove=prove or fit)
        self.supervisors.append(made)
        return made

    @property
    def pid_file(self) -> Path:
        """The file in which every run of the stub writes its own pid and its child's."""
        return self._folder / "pids"

    def lives(self) -> list[tuple[int, int]]:
        """Return (pid, child's pid) of every start so far."""
        lines = self.pid_file.read_text().splitlines() if self.pid_file.exists() else []
        return [(int(line.split()[0]), int(line.split()[1])) for line in lines]

    def survivors(self) -> list[int]:
        """Return those of all these processes that still run."""
        return [pid for life in self.lives() for pid in life if alive(pid)]

    def remote(self, endpoint: Endpoint, prove: Prove | None = None) -> Remote:
        """Return a watch of an engine that is started elsewhere."""
        return Remote(endpoint, self._settings, prove=prove or fit)

    def make_sick(self, illness: str = "sick") -> None:
        """Make the core's probes fail from now on, or hang with the illness "hung"."""
        Path(f"{self.pid_file}.sick").write_text(illness)

    def heal(self) -> None:
        """Make the core's probes pass again, in the engine that runs and in later ones."""
        Path(f"{self.pid_file}.sick").unlink()


async def fit(_endpoint: Endpoint) -> None:
    """Accept any engine."""


def alive(pid: int) -> bool:
    """Return whether a process runs; an ended one that is not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(claim: Callable[[], bool], seconds: float = 15) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not claim():
            await asyncio.sleep(0.01)


def is_up(link: Supervisor | Remote) -> bool:
    """Return whether the supervisor accepts requests."""
    try:
        link.endpoint()
    except EngineUnavailable:
        return False
    return True
