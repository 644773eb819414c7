"""Folders that were opened before are not parsed again."""

import shutil
from pathlib import Path

import pytest

from merge.opened import reopen_folder
from merge.peft_format import WEIGHTS_NAME, FormatError, open_folder

ZORP = Path(__file__).parents[2] / "deploy/demo/adapters/zorp"


def test_a_folder_is_parsed_once_until_its_files_change(tmp_path: Path) -> None:
    """An unchanged folder is the same object, a changed one is read, and faults are not kept."""
    folder = Path(shutil.copytree(ZORP, tmp_path / "zorp"))
    opened = reopen_folder(folder)
    assert opened == open_folder(folder)
    assert opened is reopen_folder(folder)
    weights = (folder / WEIGHTS_NAME).read_bytes()
    (folder / WEIGHTS_NAME).write_bytes(weights[:-1])
    with pytest.raises(FormatError, match="A007"):
        reopen_folder(folder)
    (folder / WEIGHTS_NAME).unlink()
    with pytest.raises(FormatError, match=WEIGHTS_NAME):
        reopen_folder(folder)
    (folder / WEIGHTS_NAME).write_bytes(weights)
    again = reopen_folder(folder)
    assert again == opened
    assert again is not opened
