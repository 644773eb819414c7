"""The home is its owner's alone: it has hashes of keys, and training data."""

import stat
from pathlib import Path

from server.home import LOCK_NAME, locked_home, make_home, open_registry
from server.jobs.storage import JobStorage
from server.settings import Settings


def mode(path: Path) -> int:
    """Return the permissions of a file or folder."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_home_is_closed_to_others(tmp_path: Path) -> None:
    """A new home has mode 0700, its database 0600 with the files that SQLite keeps beside it, and
    an uploaded file too."""
    settings = Settings(home=tmp_path / "new" / "home")
    registry, _ = open_registry(settings)
    with registry.bases._database.read():
        files = list(settings.home.glob("weft.db*"))
    incoming = JobStorage(settings.jobs).incoming()
    assert 0o700 == mode(settings.home)
    assert {0o600} == set(map(mode, files))
    assert len(files) == 3
    assert 0o600 == mode(incoming.path)
    incoming.discard()


def test_a_home_of_an_earlier_release_is_closed(tmp_path: Path) -> None:
    """A home that others could enter is closed at the next start; a folder that is no home is left
    as it is."""
    home, other = tmp_path / "home", tmp_path / "other"
    for folder in (home, other):
        folder.mkdir(mode=0o755)
    (home / LOCK_NAME).touch()
    with locked_home(Settings(home=home), "http://x"):
        assert 0o700 == mode(home)
    make_home(other)
    assert 0o755 == mode(other)
