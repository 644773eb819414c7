"""How tests are shared out to the processes of pytest-xdist: `-n 2`."""

import pytest
from xdist.remote import Producer
from xdist.scheduler.loadfile import LoadFileScheduling

SHARED = ("tests/engine/skills/",)  # folders whose files share an engine


class ByEngine(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Keeps the tests of a file in one process, and those of a folder whose files share one."""

    def _split_scope(self, nodeid: str) -> str:
        folders = (folder for folder in SHARED if nodeid.startswith(folder))
        return next(folders, super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByEngine:
    """Return what shares the tests out."""
    return ByEngine(config, log)
