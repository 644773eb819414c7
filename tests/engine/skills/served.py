"""A gateway and an engine with the demo's real base and all its skills."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.cli.demo import import_skills
from server.cli.demo_base import demo_base
from server.cli.demo_skills import skills_settings
from tests.engine.gateway import Weft, free_port, running

_START_SECONDS = 600  # the base may have to be made first, and other tests use the cores


@contextmanager
def serving_skills(home: Path) -> Iterator[Weft]:
    """Serve the base and the skills from a registry in `home`, which is made."""
    settings = skills_settings(home, free_port(), demo_base())
    home.mkdir(parents=True)
    import_skills(settings)
    with running(settings.model_copy(update={"engine_start_seconds": _START_SECONDS})) as weft:
        yield weft
