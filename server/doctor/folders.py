"""The folders of a home: whether they can be written, who may read them, how much fits."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from server.config_file import CONFIG_NAME
from server.doctor.finding import Finding, ok, warning, wrong
from server.settings import Settings

_LEAST_BYTES = 512 * 2**20
_SECRETS = ("api_keys", "engine_key", "database_url")


def check_folders(settings: Settings) -> Iterator[Finding]:
    """Yield whether the home and the artifacts' folder can be written and have space."""
    folders = {"home": settings.home.resolve(), "artifacts": settings.artifacts}
    for part, folder in folders.items():
        yield _writable(part, folder)
    free = _free(settings.artifacts)
    missing = settings.artifact_budget_bytes - _size(settings.artifacts) - free
    detail = f"{free / 2**30:.1f} GiB free at {settings.artifacts}"
    if free < _LEAST_BYTES:
        advice = "free space, or run `weft gc --delete`, or move the folder (WEFT_ARTIFACTS_DIR)"
        yield wrong("disk", detail, advice)
    elif missing > 0:
        budget = f"WEFT_ARTIFACT_BUDGET_BYTES ({settings.artifact_budget_bytes / 2**30:.1f} GiB)"
        advice = f"lower it by {missing / 2**30:.1f} GiB, or free space"
        yield warning("disk", f"{detail}, less than is left of {budget}", advice)
    else:
        yield ok("disk", detail)


def check_permissions(settings: Settings) -> Iterator[Finding]:
    """Yield what other users of this machine can read, and files that weft cannot write."""
    home = settings.home.resolve()
    entered = home.is_dir() and _mode(home) & 0o077
    if entered:
        detail = f"other users can enter {home}, where key hashes and training data are"
        yield warning("permissions", detail, f"run `chmod 700 {home}`")
    config = settings.config or home / CONFIG_NAME
    if config.is_file() and _mode(config) & 0o077 and _has_secrets(config):
        detail = f"other users can read {config}, which holds secrets"
        yield wrong("permissions", detail, f"run `chmod 600 {config}`")
    foreign = _unwritable(home)
    if foreign is not None:
        detail = f"{foreign} cannot be written by user {os.getuid()}"
        advice = "run weft as the owner of its home, or give the files to its user with chown"
        yield wrong("permissions", detail, advice)
    elif home.is_dir() and not entered:
        yield ok("permissions", "the home is its owner's alone")


def _writable(part: str, folder: Path) -> Finding:
    if folder.is_dir():
        if os.access(folder, os.W_OK | os.X_OK):
            return ok(part, str(folder))
        return wrong(part, f"{folder} cannot be written", "run weft as its owner, or use chown")
    if folder.exists():
        return wrong(part, f"{folder} is not a folder", "remove it or choose another folder")
    parent = _existing(folder)
    if os.access(parent, os.W_OK | os.X_OK):
        return ok(part, f"{folder} does not exist and will be created")
    return wrong(part, f"{folder} cannot be created in {parent}", "create it for weft's user")


def _unwritable(home: Path) -> Path | None:
    """Return a file of the home that weft must write and cannot."""
    names = ("weft.db", "weft.db-wal", "weft.db-shm", "blobs", "jobs", "server.lock", "engine.log")
    paths = (home / name for name in names)
    return next((path for path in paths if path.exists() and not os.access(path, os.W_OK)), None)


def _has_secrets(config: Path) -> bool:
    from server.config_file import read_config

    return not set(_SECRETS).isdisjoint(read_config(config, Settings.model_fields))


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _free(folder: Path) -> int:
    return shutil.disk_usage(_existing(folder)).free


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
