"""The end of a server, for the answers that are still being sent."""

import asyncio


class ServerStopping(Exception):
    """The server is stopping and does not finish this answer."""

    retry_after_seconds = 10

    def __init__(self) -> None:
        super().__init__("the server is stopping; send the request again")


class Stopping:
    """Tells answers in progress when they must end. `begun` is set before, for readiness."""

    def __init__(self) -> None:
        self.begun = False
        self._cut: asyncio.Future[ServerStopping] | None = None

    def future(self) -> asyncio.Future[ServerStopping]:
        """Return a future that ends, with the error for clients, when answers must end."""
        if self._cut is None:
            self._cut = asyncio.get_running_loop().create_future()
        return self._cut

    def cut(self) -> None:
        """End every answer that is still in progress, and every later one at once."""
        if not self.future().done():
            self.future().set_result(ServerStopping())
