"""A registry to test against: the real one, in a temporary folder."""

from pathlib import Path

from registry.admission.admit import AdmissionPolicy
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.storage.database import Database


def temporary_registry(root: Path, policy: AdmissionPolicy | None = None) -> Registry:
    """Return a registry in `root`: `weft.db`, created or upgraded, and `blobs/`."""
    database = Database(f"sqlite:///{root / 'weft.db'}")
    database.upgrade()
    return Registry(database, LocalBlobs(root / "blobs"), policy)
