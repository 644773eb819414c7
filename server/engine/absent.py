"""The engine of commands that work on the registry without a server: there is none."""

from contextlib import AbstractAsyncContextManager

from server.engine.protocol import EngineAdapters, EngineResponse, EngineUnavailable


class AbsentEngine:
    """See `Engine`. Nothing can be loaded, removed or asked."""

    generation = 0

    def available(self) -> bool:
        """See `Engine`."""
        return False

    async def load(self, digest: str) -> None:  # noqa: ARG002
        """See `Engine`."""
        raise _absent()

    async def remove(self, digest: str) -> None:  # noqa: ARG002
        """See `Engine`."""
        raise _absent()

    async def adapters(self) -> EngineAdapters:
        """See `Engine`."""
        raise _absent()

    def send(self, path: str, body: bytes) -> AbstractAsyncContextManager[EngineResponse]:  # noqa: ARG002
        """See `Engine`."""
        raise _absent()


def _absent() -> EngineUnavailable:
    return EngineUnavailable(
        "this command runs without an engine; add --server URL to run it against a server"
    )
