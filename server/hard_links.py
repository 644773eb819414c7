"""Hard links, and copies where a file system has none."""

import errno
import shutil
from pathlib import Path


def link_or_copy(source: Path, target: Path) -> None:
    """Make the new file `target` hold what `source` holds.

    Raises:
        OSError: the disk is full or gone, or `source` is.
    """
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
            raise
        shutil.copyfile(source, target)
