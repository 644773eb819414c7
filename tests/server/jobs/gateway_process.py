"""Run a gateway's queue in a process that tests kill, `python -m … HOME`; its jobs hang."""

import asyncio
import sys
from pathlib import Path

from server.gateway import Gateway
from server.home import open_registry
from tests.server.conftest import demo_settings
from tests.server.jobs import children
from tests.server.jobs.conftest import running
from tests.serving import serving


async def main(home: Path) -> None:
    """Run the queue until the end."""
    settings = demo_settings(home)
    registry, versions = open_registry(settings)
    gateway = Gateway(
        settings,
        registry=registry,
        versions=versions,
        bases=serving(settings, absent="There is no engine."),
    )
    async with running(gateway, children.hang):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
