"""`weft console`, and the console beside the demo."""

import socket
import subprocess
import sys
import urllib.request

import pytest

from server.cli import consoling, demo_console
from tests.server.commands import failed
from tests.server.conftest import Weft


def test_without_the_extra_it_says_what_to_install(
    weft: Weft, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where NiceGUI is missing, the command names the extra."""
    monkeypatch.setattr(consoling, "find_spec", lambda _: None)
    failed(weft("console", "--server", "http://localhost:1"), 'pip install "weft[console]"')


def test_a_server_is_a_url(weft: Weft) -> None:
    """What is no URL is refused before the console starts."""
    failed(weft("console", "--server", "gpu-1"), "--server", "http://gpu-1:8000")


def test_a_port_that_is_taken_is_told(weft: Weft) -> None:
    """A console does not start where another program listens."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        failed(weft("console", "--server", "http://localhost:1", "--port", port), "--port")


def test_the_demo_has_a_console_beside_it() -> None:
    """The console runs in a process of its own, says where, and ends with the demo."""
    with demo_console.console_beside("http://127.0.0.1:1") as address:
        url = address().rpartition(" ")[2]
        with urllib.request.urlopen(f"{url}/sign-in", timeout=30) as page:  # noqa: S310 - ours
            assert "No answer from http://127.0.0.1:1" in page.read().decode()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=30)  # noqa: S310 - ours


def test_the_demo_runs_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where NiceGUI is missing, the demo says what adds a console."""
    monkeypatch.setattr(demo_console, "find_spec", lambda _: None)
    with demo_console.console_beside("http://127.0.0.1:1") as address:
        assert 'pip install "weft[console]"' in address()


def test_the_command_imports_nothing_of_the_server() -> None:
    """The console's process has neither torch nor a database: it is a client."""
    code = (
        "import sys, server.console.app; "
        "print(sorted({'torch', 'sqlalchemy', 'vllm'} & set(sys.modules)))"
    )
    assert "[]" == subprocess.check_output([sys.executable, "-c", code], text=True).strip()
