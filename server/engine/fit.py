"""The self-test as the proof that an engine is fit: in its turn, with the settings' limits."""

import secrets

from registry.storage.blobs import LocalBlobs
from server.engine.client import VllmEngine
from server.engine.link import Endpoint, Fixed
from server.engine.proof import Prove
from server.engine.selftest import Shapes, self_test
from server.engine.turn import turn
from server.settings import Settings


def proof_of(settings: Settings, shapes: Shapes) -> Prove:
    """Return the test that an engine has to pass before it serves.

    Args:
        settings: they name the base and the folder that engines load from, which is made.
        shapes: of the base's modules.
    """
    artifacts = LocalBlobs(settings.artifacts)
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
