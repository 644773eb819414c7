"""Fixtures: one gateway with one engine for all tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.engine.gateway import Weft
from tests.engine.skills.served import serving_skills


@pytest.fixture(scope="package")
def weft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weft]:
    """A gateway and an engine with the real base and all skills."""
    with serving_skills(tmp_path_factory.mktemp("skills") / "home") as weft:
        yield weft
