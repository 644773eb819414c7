"""Fixtures: one gateway with one real engine for all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.sources.folder import import_folder
from server.base_model import ensure_base
from tests.engine.gateway import DEMO, Weft, running, serve_settings
from tests.engine.oracle import Oracle

# Without a parser vLLM returns no tool calls, not even of a tool that the request names; this one
# needs no special tokens. The demo's model would fill the blanks of a JSON document for ever.
TOOLS = (
    "--enable-auto-tool-choice --tool-call-parser pythonic --structured-outputs-config "
    """'{"backend": "xgrammar", "disable_any_whitespace": true}'"""
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder that use the engine."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and "weft" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.engine)


@pytest.fixture(scope="session")
def weft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weft]:
    """A gateway that serves the demo base with all demo adapters, each also as `name@prod`."""
    home = tmp_path_factory.mktemp("weft") / "home"
    settings = serve_settings(home, prompt_tokens_details=True, engine_args=TOOLS)
    with running(settings) as weft:
        registry = weft.registry
        base = ensure_base(registry, settings)
        for item in import_folder(registry, DEMO / "adapters", base=base.name, alias="prod"):
            assert not isinstance(item.outcome, Exception), item.outcome
        yield weft


@pytest.fixture(scope="session")
def oracle() -> Oracle:
    """The reference answers of transformers and PEFT."""
    return Oracle()
