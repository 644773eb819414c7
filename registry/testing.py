"""A real registry for tests, in a temporary folder."""

from pathlib import Path

from registry.admission.admit import AdmissionPolicy
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.storage.database import Database


def temporary_registry(root: Path, policy: AdmissionPolicy | None = None) -> Registry:
    """Create or upgrade `weft.db` in `root`, and return a registry of it and of `blobs/`."""
    database = Database(f"sqlite:///{root / 'weft.db'}")
    database.upgrade()
    return Registry(database, LocalBlobs(root / "blobs"), policy)
