"""The self-test as the proof that an engine is fit: in its turn, with the settings' limits."""

import secrets
from pathlib import Path

from registry.storage.blobs import LocalBlobs
from registry.storage.bucket import Bucket
from server.engine.client import VllmEngine
from server.engine.link import Endpoint, Fixed
from server.engine.proof import Prove
from server.engine.selftest import Shapes, self_test
from server.engine.turn import turn
from server.settings import Settings
from server.stores import artifact_bucket


class _Everywhere(LocalBlobs):
    """The folder of a gateway, and the bucket from which engines on other machines fetch."""

    def __init__(self, root: Path, bucket: Bucket | None) -> None:
        super().__init__(root)
        self._bucket = bucket

    def adopt(self, folder: Path, digest: str | None = None) -> str:
        """Move a folder into both. Raises StoreUnavailable: as `Bucket`."""
        digest = super().adopt(folder, digest)
        if self._bucket is not None:
            self._bucket.put(digest, self.path(digest))
        return digest

    def delete(self, digest: str) -> None:
        """Remove a folder from both. Raises StoreUnavailable: as `Bucket`."""
        super().delete(digest)
        if self._bucket is not None:
            self._bucket.discard(digest, idle_seconds=0)


def proof_of(settings: Settings, shapes: Shapes) -> Prove:
    """Return the test that an engine has to pass before it serves.

    Args:
        settings: they name the base and the folder that engines load from, which is made.
        shapes: of the base's modules.
    """
    artifacts = _Everywhere(settings.artifacts, artifact_bucket(settings))
    settings.artifacts.mkdir(parents=True, exist_ok=True)

    async def prove(endpoint: Endpoint) -> None:
        if not settings.self_test:
            return
        engine = VllmEngine(Fixed(endpoint))
        try:
            async with turn(settings.artifacts, settings.engine_start_seconds / 2):
                await self_test(
                    engine, base=settings.served_base, shapes=shapes, artifacts=artifacts,
                    slots=settings.max_loras, seed=secrets.randbits(64),
                )  # fmt: skip
        finally:
            await engine.close()

    return prove
