"""Files that are there whole or not at all: written beside their place, synced, renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def appearing(path: Path) -> Iterator[BinaryIO]:
    """Give a file that becomes `path` when the context ends; folders are made.

    On any failure what was at `path` stays as it was, and nothing is left beside it.

    Raises:
        OSError: the disk is full or gone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, text: str) -> None:
    """Write a text. Raises OSError: the disk is full or gone; see `appearing`."""
    with appearing(path) as file:
        file.write(text.encode())
