"""The engine's output: a file with a size limit, and the newest part in memory."""

import os
from pathlib import Path

from server.engine.output import EngineOutput

LINE = b"0123456789abcde\n"


def written(output: EngineOutput, lines: int) -> None:
    """Let an engine write so many lines and end."""
    reader, writer = os.pipe()
    output.copy(reader)
    for _ in range(lines):
        os.write(writer, LINE)
    os.close(writer)
    output.settle(5)


def test_the_file_stays_below_its_limit_while_the_engine_runs(tmp_path: Path) -> None:
    """One start that writes many times the limit leaves two files within it, the newest lines in
    the first."""
    output = EngineOutput(tmp_path / "logs" / "engine.log", limit_bytes=100_000)
    written(output, 30_000)
    sizes = {path.name: path.stat().st_size for path in output.path.parent.iterdir()}
    assert {"engine.log", "engine.log.1"} == sizes.keys()
    assert max(sizes.values()) <= 100_000
    assert output.path.read_bytes().endswith(LINE)


def test_each_start_s_tail_is_its_own(tmp_path: Path) -> None:
    """Error messages show the newest start alone, though the file has all of them."""
    output = EngineOutput(tmp_path / "engine.log")
    written(output, 2)
    written(output, 1)
    assert LINE.decode() == output.tail()
    assert 3 * LINE == output.path.read_bytes()


def test_a_full_disk_does_not_stop_the_engine(tmp_path: Path) -> None:
    """What cannot be written is dropped; the engine never waits, and its end is still explained."""
    (tmp_path / "file").touch()
    output = EngineOutput(tmp_path / "file" / "engine.log")  # a folder that cannot be made
    written(output, 10_000)  # more than a pipe holds
    assert output.tail().endswith(LINE.decode())
