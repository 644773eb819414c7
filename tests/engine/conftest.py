"""Fixtures: one gateway with one real engine for all tests of this folder.

With TEST_GATEWAYS=2 it is two gateways before two engines, and requests alternate between
them: what holds for one holds for several.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from registry.sources.folder import import_folder
from server.base_model import ensure_base
from tests.engine.cluster.alternating import alternating
from tests.engine.gateway import DEMO, Weft, running, serve_settings
from tests.engine.oracle import Oracle

GATEWAYS = int(os.environ.get("TEST_GATEWAYS", "1"))
# Without a parser vLLM returns no tool calls, not even of a tool that the request names; this one
# needs no special tokens. The demo's model would fill the blanks of a JSON document for ever.
TOOLS = (
    "--enable-auto-tool-choice --tool-call-parser pythonic --structured-outputs-config "
    """'{"backend": "xgrammar", "disable_any_whitespace": true}'"""
)


# These change the files from which the engine loads, in the folder of its one gateway, or start a
# gateway of their own that shares this folder.
ONE_MACHINE = {
    "test_deleting_artifacts_by_hand", "test_deleting_every_artifact_under_traffic",
    "test_changed_files_are_not_loaded", "test_remove_while_it_runs",
    "test_quick_start_and_commands",
}  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of this folder that use the engine, and leave out those of one machine."""
    here = Path(__file__).parent
    for item in list(items):
        if item.path.is_relative_to(here) and "weft" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.engine)
            if GATEWAYS > 1 and item.name in ONE_MACHINE:
                items.remove(item)
                config.hook.pytest_deselected(items=[item])


@pytest.fixture(scope="session")
def weft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weft]:
    """A gateway that serves the demo base with all demo adapters, each also as `name@prod`."""
    folder = tmp_path_factory.mktemp("weft")
    changes = {"prompt_tokens_details": True, "engine_args": TOOLS}
    started: AbstractContextManager[Weft]
    if GATEWAYS > 1:
        started = alternating(folder, GATEWAYS, **changes)
    else:
        started = running(serve_settings(folder / "home", **changes))
    with started as weft:
        registry = weft.registry
        base = ensure_base(registry, weft.settings)
        for item in import_folder(registry, DEMO / "adapters", base=base.name, alias="prod"):
            assert not isinstance(item.outcome, Exception), item.outcome
        yield weft


@pytest.fixture(scope="session")
def oracle() -> Oracle:
    """The reference answers of transformers and PEFT."""
    return Oracle()
