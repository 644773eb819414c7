"""The database's schema over time, as Alembic revisions.

A file is named `<date>_<time>_<before|after>_<what>.py`: "before" is run before the new code is
deployed (it only adds), "after" once no old code runs (it may remove).
"""

from pathlib import Path

_VERSIONS = Path(__file__).parent / "versions"


def revisions() -> tuple[str, ...]:
    """Return every revision, oldest first: the date and time that each file's name begins with.

    Reading names takes no time; Alembic's own script directory imports every file.
    """
    names = sorted(path.name for path in _VERSIONS.glob("[0-9]*.py"))
    return tuple("_".join(name.split("_")[:4]) for name in names)
