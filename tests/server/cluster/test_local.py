"""`weft cluster …` where there is no cluster: sentences that say what to do."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from server.cluster import local
from server.cluster.local import Cluster
from tests.server.conftest import Weft


def test_a_missing_extra_is_told(weft: Weft, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Ray `up` says which extra to install, and starts nothing."""
    monkeypatch.setenv("WEFT_API_KEYS", "secret")
    monkeypatch.setenv("WEFT_PORT", "0")
    monkeypatch.setattr(local, "find_spec", lambda _: None)

    result = weft("cluster", "up")

    assert 1 == result.exit_code
    assert "pip install 'weft[ray]'" in result.stderr


def test_a_cluster_needs_a_key(weft: Weft, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key `up` refuses: a gateway on Ray is reachable from other machines."""
    monkeypatch.setenv("WEFT_PORT", "0")

    result = weft("cluster", "up")

    assert 1 == result.exit_code
    assert "weft keys create" in result.stderr


@pytest.mark.parametrize("variable", ["WEFT_DATABASE_URL", "WEFT_STORE"])
def test_several_gateways_need_a_shared_database_and_store(
    weft: Weft, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    """Two gateways with only one of the two are refused before anything starts."""
    value = {"WEFT_STORE": f"file://{tmp_path}", "WEFT_DATABASE_URL": "sqlite:///x.db"}[variable]
    monkeypatch.setenv(variable, value)

    result = weft("cluster", "up", "--gateways", 2)

    assert 1 == result.exit_code
    assert "WEFT_DATABASE_URL" in result.stderr
    assert "WEFT_STORE" in result.stderr


@pytest.mark.parametrize(
    ("words", "reason"), [(("--engine", 2), "--engines"), (("--engines", 0), "greater than")]
)
def test_a_wrong_flag_is_told(weft: Weft, words: tuple[str, int], reason: str) -> None:
    """A misspelt option and a number out of range are usage errors."""
    result = weft("cluster", "up", *words)

    assert 2 == result.exit_code
    assert reason in result.stderr


@pytest.mark.parametrize("command", ["status", "down"])
def test_no_cluster_is_told(weft: Weft, command: str) -> None:
    """`status` and `down` without a cluster say how to start one."""
    result = weft("cluster", command)

    assert 1 == result.exit_code
    assert "weft cluster up" in result.stderr


def test_a_process_of_the_same_number_is_no_cluster(weft: Weft, home: Path) -> None:
    """What a crashed cluster left names a process that another program has now: there is none."""
    folder = home / "cluster"
    folder.mkdir()
    crashed = Cluster(os.getpid(), 0.0, "http://127.0.0.1:1", "http://127.0.0.1:2", str(folder))
    (folder / "cluster.json").write_text(json.dumps(asdict(crashed)))

    assert 1 == weft("cluster", "down").exit_code
    assert not crashed.runs()


def test_stages_say_how_many_replicas_run() -> None:
    """A stage names each deployment with the replicas that run and those that are wanted."""
    replicas = [{"state": "RUNNING"}, {"state": "STARTING"}]
    engine = {"replicas": replicas, "target_num_replicas": 2}

    assert ["engine: 1 of 2 running"] == local.stages_of({"deployments": {"engine": engine}})
