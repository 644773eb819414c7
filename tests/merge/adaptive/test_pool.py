"""What is remembered of pool members: by task and digest, through crashes."""

from pathlib import Path

from merge.adaptive.pool import FileScores, MemberScore

ONE, TWO = MemberScore(0.5, 1.25), MemberScore(0.0, 9.5)


def test_scores_are_kept_by_task_and_digest(tmp_path: Path) -> None:
    """A score is found by whoever opens the folder later, for its task alone."""
    scores = FileScores(tmp_path / "scores")
    scores.put("task", "a", ONE)
    scores.put("task", "b", TWO)

    for each in (scores, FileScores(tmp_path / "scores")):
        assert (ONE, TWO) == (each.get("task", "a"), each.get("task", "b"))
        assert each.get("other", "a") is None


def test_half_a_line_is_no_score(tmp_path: Path) -> None:
    """What a crash cut off is not there, and what is written after it is."""
    FileScores(tmp_path).put("task", "a", ONE)
    FileScores(tmp_path).put("task", "b", TWO)
    path = tmp_path / "task.jsonl"
    path.write_text(path.read_text().rstrip()[:-4])

    FileScores(tmp_path).put("task", "c", TWO)

    again = FileScores(tmp_path)
    assert (ONE, None, TWO) == tuple(again.get("task", digest) for digest in "abc")
