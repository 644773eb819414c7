"""Scores of pool members in files: shared, appended, safe from crashes and full disks."""

from pathlib import Path

import pytest

from merge.adaptive.pool import FileScores
from merge.adaptive.scoring.scored import Scored
from tests.server.disks import full_disk

TASK, A, B = "t" * 64, "a" * 64, "b" * 64
GOOD = Scored((0.1 + 0.2, 1 / 3), (1, 2), (True, False), (True, True))
BAD = Scored((1e6,), (3,), (False,), None)


def test_a_score_is_found_again(tmp_path: Path) -> None:
    """A score reads back exactly, from the same instance and from one that is opened later."""
    scores = FileScores(tmp_path / "scores")
    assert scores.get(TASK, A) is None
    scores.put(TASK, A, GOOD)

    assert GOOD == scores.get(TASK, A) == FileScores(tmp_path / "scores").get(TASK, A)


def test_tasks_are_apart(tmp_path: Path) -> None:
    """A score is known for its own task only."""
    FileScores(tmp_path).put(TASK, A, GOOD)

    assert FileScores(tmp_path).get("u" * 64, A) is None


def test_two_jobs_keep_each_others_lines(tmp_path: Path) -> None:
    """Two instances that write in turn lose nothing: an instance opened later has both scores."""
    one, two = FileScores(tmp_path), FileScores(tmp_path)
    assert one.get(TASK, A) is two.get(TASK, A) is None  # both have read the empty file
    one.put(TASK, A, GOOD)
    two.put(TASK, B, BAD)

    again = FileScores(tmp_path)
    assert (GOOD, BAD) == (again.get(TASK, A), again.get(TASK, B))


def test_the_last_score_counts(tmp_path: Path) -> None:
    """If two jobs measured the same member, the last score counts."""
    FileScores(tmp_path).put(TASK, A, BAD)
    FileScores(tmp_path).put(TASK, A, GOOD)

    assert GOOD == FileScores(tmp_path).get(TASK, A)


def cut(folder: Path, letters: int) -> Path:
    """Cut off the end of the only file in a folder, as a crash does."""
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-letters])
    return path


@pytest.mark.parametrize("letters", [2, 30, 60])
def test_half_a_line_is_no_score(letters: int, tmp_path: Path) -> None:
    """A score whose line a crash cut off is unknown, and the scores before it are kept."""
    FileScores(tmp_path).put(TASK, A, GOOD)
    FileScores(tmp_path).put(TASK, B, BAD)
    cut(tmp_path, letters)
    scores = FileScores(tmp_path)

    assert (GOOD, None) == (scores.get(TASK, A), scores.get(TASK, B))


def test_what_is_kept_after_half_a_line_is_kept(tmp_path: Path) -> None:
    """A score written after a cut-off line is kept."""
    FileScores(tmp_path).put(TASK, A, BAD)
    cut(tmp_path, 30)
    FileScores(tmp_path).put(TASK, B, GOOD)

    assert GOOD == FileScores(tmp_path).get(TASK, B)


@pytest.mark.parametrize(
    "line", ["", "null", "[]", "7", "{}", '{"digest": "a"}', '{"digest": "a", "accuracy": null}']
)
def test_a_line_that_is_no_score_is_passed_over(line: str, tmp_path: Path) -> None:
    """Lines that are not scores are ignored, and the other scores are kept."""
    FileScores(tmp_path).put(TASK, A, GOOD)
    (path,) = tmp_path.iterdir()
    path.write_text(f"{line}\n{path.read_text()}{line}")

    assert GOOD == FileScores(tmp_path).get(TASK, A)


@pytest.mark.parametrize("room", [0, 20])
def test_a_full_disk_is_told(room: int, tmp_path: Path) -> None:
    """On a full disk, storing a score raises an error and leaves the score unknown."""
    scores = FileScores(tmp_path)
    with full_disk(room), pytest.raises(OSError, match=r"No space left|too large"):
        scores.put(TASK, A, GOOD)

    assert scores.get(TASK, A) is FileScores(tmp_path).get(TASK, A) is None
    scores.put(TASK, A, GOOD)
    assert GOOD == FileScores(tmp_path).get(TASK, A)
