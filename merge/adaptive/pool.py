"""The pool: the adapters that may be chosen from, and what is remembered of each.

Both are protocols: who keeps adapters, and where, is not known here.
"""

import errno
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class PoolMember:
    """One adapter of a pool.

    Attributes:
        reference: what people call it, for example "legal@2".
        digest: of its content.
        path: its PEFT folder, admitted before.
        text_similarity: of what it says of itself to the examples; None where nobody compared.
    """

    reference: str
    digest: str
    path: Path
    text_similarity: float | None = None


class Pool(Protocol):
    """The adapters that may be chosen from; their order means nothing."""

    def members(self) -> Sequence[PoolMember]:
        """Return them all."""
        ...


class MemberScore(NamedTuple):
    """How one adapter alone does on a task's training examples."""

    accuracy: float  # share of answers that match
    loss: float  # nats per answer token


class ScoreMemory(Protocol):
    """Keeps pool members' scores by task, so that no job measures what another has."""

    def get(self, task: str, digest: str) -> MemberScore | None:
        """Return the score of the adapter with this digest, if it is known."""
        ...

    def put(self, task: str, digest: str, score: MemberScore) -> None:
        """Keep a score; it is safe once this returns. Raises OSError: the disk is full or gone."""
        ...


class FileScores:
    """Scores in a folder: one file a task, one line a score; half a line or none is no score."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, dict[str, MemberScore]] = {}

    def get(self, task: str, digest: str) -> MemberScore | None:
        """See `ScoreMemory`."""
        return self._of(task).get(digest)

    def put(self, task: str, digest: str, score: MemberScore) -> None:
        """See `ScoreMemory`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # Begun on a line of its own: the last one may have been cut off.
        line = f"\n{json.dumps({'digest': digest, **score._asdict()})}\n".encode()
        # One write to a file that is opened for appending: lines of two jobs do not mix.
        file = os.open(self._path(task), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if os.write(file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path(task)))
            os.fsync(file)
        finally:
            os.close(file)
        self._of(task)[digest] = score

    def _of(self, task: str) -> dict[str, MemberScore]:
        if task not in self._read:
            path = self._path(task)
            lines = path.read_text().splitlines() if path.exists() else []
            self._read[task] = dict(filter(None, map(_score, lines)))
        return self._read[task]

    def _path(self, task: str) -> Path:
        return self._folder / f"{task}.jsonl"


def _score(line: str) -> tuple[str, MemberScore] | None:
    try:
        read = json.loads(line)
        return str(read["digest"]), MemberScore(float(read["accuracy"]), float(read["loss"]))
    except (ValueError, KeyError, TypeError):  # a line that a crash or a full disk cut off
        return None
