"""Runs the README's commands in their order, with an empty home and the session's engine.

The adapters and the base are the demo's, under the README's names. Not covered: `make setup`, which
makes the environment of the tests, and vLLM's start by `weft serve` (see `test_faults.py`).
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.engine.gateway import BASE, DEMO, START_SECONDS, Weft, free_port

ROOT = DEMO.parents[1]
README = (ROOT / "README.md").read_text()
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SETUP = "make setup && . .venv/bin/activate"


@dataclass(frozen=True, slots=True)
class Reader:
    """Runs what the README shows, in a folder of its own."""

    folder: Path
    environment: dict[str, str]
    port: int

    def type(self, block: str) -> str:
        """Run a block of the README and return what it prints.

        Raises:
            AssertionError: a command of the block fails.
        """
        done = subprocess.run(
            ["bash", "-euc", self._here(block)],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    @contextmanager
    def serving(self, command: str) -> Iterator[None]:
        """Run the README's server until the block ends."""
        log = self.folder / "serve.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-euc", f"exec {command}"],
                cwd=self.folder, env=self.environment, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + START_SECONDS
            while not self._healthy():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            process.wait(60)

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/ready", trust_env=False).is_success
        except httpx.TransportError:
            return False

    def _here(self, block: str) -> str:
        return block.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}").replace(_SETUP, "true")


def blocks(language: str) -> list[str]:
    """Return the README's fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def reader(weft: Weft, folder: Path) -> Reader:
    """Return a reader whose `weft` is this tree's and whose home is empty."""
    adapters, tools = folder / "adapters", folder / "bin"
    for name, source in (("legal", "zorp"), ("sql", "blim")):
        shutil.copytree(DEMO / "adapters" / source, adapters / name)
    tools.mkdir()
    (tools / "weft").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m server.cli "$@"\n')
    (tools / "weft").chmod(0o755)
    endpoint, port = weft.engine_endpoint(), free_port()
    settings = {
        "MODEL": DEMO / "base", "SERVED_BASE": BASE, "DTYPE": "float32", "PORT": port,
        "MAX_LORAS": weft.settings.max_loras, "MAX_CPU_LORAS": weft.settings.max_cpu_loras,
        "ENGINE_URL": endpoint.url, "ENGINE_KEY": endpoint.key,
        "ARTIFACTS_DIR": weft.settings.artifacts.resolve(),
        "SELF_TEST": False,  # the session's gateway has tested this engine
    }  # fmt: skip
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WEFT_")}
    environment = clean | {
        "HOME": str(folder), "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
        **{f"WEFT_{name}": str(value) for name, value in settings.items()},
    }  # fmt: skip
    return Reader(folder, environment, port)


def test_quick_start_and_commands(weft: Weft, tmp_path: Path) -> None:
    """In an empty home the quick start imports, serves and answers, and every command works."""
    me = reader(weft, tmp_path)
    start, ask, demo, commands = blocks("sh")
    install, serve = start.split("weft serve")

    assert install.startswith(_SETUP)
    assert "2" in me.type(install)
    with me.serving(f"weft serve {serve}"):
        first, second = me.type(ask), me.type(ask)
        python = blocks("python")[0].replace("127.0.0.1:8000", f"127.0.0.1:{me.port}")
        answered = me.type(f'"{sys.executable}" - <<"EOF"\n{python}EOF\n')
        me.type(commands)

    for response in (first, second):
        assert response.startswith("HTTP/1.1 200")
        assert re.search(r"server-timing: .*merge;dur=.*load;dur=.*engine;dur=", response)
    assert re.findall(r'"model":"([0-9a-f]{64})"', first) == re.findall(_DIGEST, second)[:1]
    assert _DIGEST.match(answered)
    assert demo.startswith("make demo")


def test_make_demo_is_weft_demo() -> None:
    """`make demo` runs `weft demo`; `TINY=1` and `ONCE=1` are its options."""
    planned = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "demo", "ONCE=1", "TINY=1"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert planned.stdout.rstrip().endswith("weft demo --tiny --once")


@pytest.mark.slow  # it starts an engine of its own
def test_tiny_demo_answers(weft: Weft, tmp_path: Path) -> None:
    """The tiny demo's adapters and compositions answer correctly."""
    me = reader(weft, tmp_path)
    printed = me.type(f"COLUMNS=250 weft demo --tiny --once --port {me.port}")

    assert 24 == len(re.findall(r"│ yes +│", printed))
