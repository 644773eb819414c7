"""The engines that Ray runs, as members of a gateway's fleet."""

from server.cluster.news import BOARD
from server.engine.link import Endpoint


class OnRay:
    """See `server.engine.members.Members`. `base` is the name of the base that they serve."""

    def __init__(self, base: str) -> None:
        self._base = base

    async def endpoints(self) -> frozenset[Endpoint]:
        """See `Members`."""
        return frozenset(
            Endpoint(news.metadata["url"], news.metadata["key"])
            for news in BOARD.latest
            if news.metadata.get("base") == self._base
        )
