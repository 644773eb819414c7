"""The checks of `weft serve` before the engine starts: port, home, model."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from server.home import HomeInUse, locked_home
from server.preflight import ModelUnusable, PortTaken, bound_socket, check_model
from server.settings import Settings
from tests.server.commands import failed
from tests.server.conftest import DEMO, MakeSettings, Weft


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the demo base that a test may damage."""
    return Path(shutil.copytree(DEMO / "base", tmp_path / "model"))


def test_a_taken_port_is_refused_at_once(weft: Weft) -> None:
    """The message names the port and the option that changes it."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        failed(weft("serve", "--port", port), f"127.0.0.1:{port}", "--port")


def test_a_bound_port_is_free_again_afterwards() -> None:
    """The port can be bound again after the check; another machine's address cannot be bound."""
    with bound_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
    with bound_socket("127.0.0.1", port):
        pass
    with pytest.raises(PortTaken), bound_socket("192.0.2.1", 0):
        pass


def test_a_second_server_on_a_home_is_refused(weft: Weft, settings: Settings) -> None:
    """The message names process and URL of the first."""
    with locked_home(settings, "http://127.0.0.1:7"):
        failed(weft("serve", "--port", 0), f"process {os.getpid()}", "http://127.0.0.1:7")
    with locked_home(settings, "http://127.0.0.1:8"):
        pass


def test_the_lock_of_a_dead_process_does_not_hold(settings: Settings) -> None:
    """A killed server leaves its lock file, but no lock."""
    code = (
        "import os, sys; from pathlib import Path; from server.home import locked_home\n"
        "from server.settings import Settings\n"
        "with locked_home(Settings(home=Path(sys.argv[1])), 'http://x'): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, settings.home], check=False)
    assert (settings.home / "server.lock").is_file()
    with (
        locked_home(settings, "http://127.0.0.1:8"),
        pytest.raises(HomeInUse),
        locked_home(settings, "http://127.0.0.1:9"),
    ):
        pass


def test_a_whole_model_passes(make_settings: MakeSettings) -> None:
    """The complete demo base passes."""
    check_model(make_settings())


def test_a_damaged_model_is_refused(model: Path, make_settings: MakeSettings) -> None:
    """Truncated weights, an LFS pointer, no weights, no config: each is named with its file."""
    settings = make_settings(model=str(model))
    weights = next(model.glob("*.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    with pytest.raises(ModelUnusable, match=rf"{weights.name} is truncated: \d+ bytes of"):
        check_model(settings)
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    with pytest.raises(ModelUnusable, match="git lfs pull"):
        check_model(settings)
    weights.unlink()
    with pytest.raises(ModelUnusable, match="has no weights"):
        check_model(settings)
    (model / "config.json").unlink()
    with pytest.raises(ModelUnusable, match=r"no config\.json"):
        check_model(settings)


def test_a_missing_shard_is_named(model: Path, make_settings: MakeSettings) -> None:
    """A file that the index lists and the folder lacks is named."""
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelUnusable, match=r"2 of 2 files .* first is model-1\.safetensors"):
        check_model(make_settings(model=str(model)))


def test_a_model_that_is_nowhere_is_refused(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path without a folder, and offline an uncached Hub id, are refused."""
    with pytest.raises(ModelUnusable, match="is not a folder"):
        check_model(make_settings(model="/no/such/folder"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelUnusable, match=r"HF_HUB_OFFLINE is set.*hf download acme/none"):
        check_model(make_settings(model="acme/none"))
