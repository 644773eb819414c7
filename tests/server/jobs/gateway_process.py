"""Run a gateway's queue in a process that tests kill, `python -m … HOME`; its jobs hang."""

import asyncio
import sys
from pathlib import Path

from server.engine.fleet import Fleet
from server.gateway import Gateway
from server.home import open_registry
from tests.server.conftest import BASE, demo_settings
from tests.server.jobs import children
from tests.server.jobs.conftest import running


async def main(home: Path) -> None:
    """Run the queue until the end."""
    settings = demo_settings(home)
    registry, versions = open_registry(settings)
    gateway = Gateway(
        settings,
        registry=registry,
        versions=versions,
        fleet=Fleet(absent="There is no engine."),
        base=BASE,
    )
    async with running(gateway, children.hang):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
