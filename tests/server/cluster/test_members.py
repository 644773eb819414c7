"""What a gateway on Ray hears of engines, and the home that it has."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server.cluster.members import OnRay
from server.cluster.news import BOARD, EngineNews
from server.engine.link import Endpoint
from tests.server.conftest import BASE, MakeSettings

ONE = {"url": "http://10.0.0.1:4711", "key": "sesame", "base": BASE}


@pytest.fixture(autouse=True)
def clean_board() -> Iterator[None]:
    """The board of this process, empty before and after."""
    BOARD.latest = ()
    yield
    BOARD.latest = ()


async def test_engines_of_the_base_are_the_members() -> None:
    """The engines that serve the gateway's base are its members, with their keys."""
    other = {**ONE, "url": "http://10.0.0.2:4711", "base": "another"}
    BOARD.latest = (EngineNews(ONE, {}), EngineNews(other, {}))

    assert {Endpoint("http://10.0.0.1:4711", "sesame")} == await OnRay(BASE).endpoints()


async def test_no_engine_is_known_before_any_news() -> None:
    """A gateway that has heard nothing has no engines."""
    assert frozenset() == await OnRay(BASE).endpoints()


def test_the_router_puts_engines_on_the_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Serve's controller tells a router is on the board of the process, and what was told
    before is not."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.serve.request_router import RequestRouter

    from server.cluster.hooks import EngineRouter

    monkeypatch.setattr(RequestRouter, "update_replicas", lambda *_: None)
    router = EngineRouter.__new__(EngineRouter)
    up: list[Any] = [SimpleNamespace(replica_metadata=ONE, routing_stats={"running": 3})]

    router.update_replicas(up)
    assert [EngineNews(ONE, {"running": 3})] == list(BOARD.latest)
    router.update_replicas([])
    assert [] == list(BOARD.latest)


def test_gateways_with_a_store_have_homes_of_their_own(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    """Two gateways of one machine share the database and the store, and no folder."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from server.cluster.gateway import settings_of

    shared = make_settings(store=f"file://{tmp_path}", artifacts_dir=tmp_path / "shm")
    first, second = settings_of(0, shared), settings_of(1, shared)

    assert first.database == second.database == shared.database
    assert len({first.artifacts, second.artifacts, shared.artifacts}) == 3
    assert len({first.blobs, second.blobs, shared.blobs}) == 3


def test_a_gateway_without_a_store_has_the_home_itself(
    make_settings: MakeSettings,
) -> None:
    """Without an object store the engines of the machine load from the gateway's own folder."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from server.cluster.gateway import settings_of

    settings = make_settings()

    assert settings_of(0, settings) == settings
