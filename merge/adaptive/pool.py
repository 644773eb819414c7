"""The pool: the adapters that a job chooses from, and stored scores of its members.

Both are protocols; the registry or a folder implements them.
"""

import errno
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from merge.adaptive.scoring.scored import Scored


@dataclass(frozen=True, slots=True)
class PoolMember:
    """One adapter of a pool.

    Attributes:
        reference: for example "legal@2".
        digest: of its content.
        path: its PEFT folder, already admitted.
        text_similarity: of its description to the examples; None if it was not computed.
    """

    reference: str
    digest: str
    path: Path
    text_similarity: float | None = None


class Pool(Protocol):
    """The adapters to choose from, in no particular order."""

    def members(self) -> Sequence[PoolMember]:
        """Return them all."""
        ...


class MemberScore(NamedTuple):
    """The scores of one adapter alone on examples that a learning may see."""

    accuracy: float  # share of answers that match
    loss: float  # nats per answer token


class ScoreMemory(Protocol):
    """Stores pool members' scores by task, so that jobs share their measurements."""

    def get(self, task: str, digest: str) -> Scored | None:
        """Return the scores of the adapter with this digest, example by example, if known."""
        ...

    def put(self, task: str, digest: str, score: Scored) -> None:
        """Store scores durably. Raises OSError: the disk is full or gone."""
        ...


class FileScores:
    """Scores in a folder: a file per task, a line per score; incomplete lines are skipped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, dict[str, Scored]] = {}

    def get(self, task: str, digest: str) -> Scored | None:
        """See `ScoreMemory`."""
        return self._of(task).get(digest)

    def put(self, task: str, digest: str, score: Scored) -> None:
        """See `ScoreMemory`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # A leading newline: the last line may have been cut off, and would swallow this one.
        line = f"\n{json.dumps({'digest': digest, **score.to_json()})}\n".encode()
        # A single write with O_APPEND is atomic: lines of two jobs do not interleave.
        file = os.open(self._path(task), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if os.write(file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path(task)))
            os.fsync(file)
        finally:
            os.close(file)
        self._of(task)[digest] = score

    def _of(self, task: str) -> dict[str, Scored]:
        if task not in self._read:
            path = self._path(task)
            lines = path.read_text().splitlines() if path.exists() else []
            self._read[task] = dict(filter(None, map(_score, lines)))
        return self._read[task]

    def _path(self, task: str) -> Path:
        return self._folder / f"{task}.jsonl"


def _score(line: str) -> tuple[str, Scored] | None:
    try:
        read = json.loads(line)
        return str(read["digest"]), Scored.from_json(read)
    except (ValueError, KeyError, TypeError):  # a line that a crash or a full disk cut off
        return None
