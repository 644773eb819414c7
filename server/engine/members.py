"""Which engines there are: a list of URLs, in which a host name may stand for several engines."""

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import urlsplit

from server.engine.link import Endpoint
from server.sites import is_loopback


class Members(Protocol):
    """Tells which engines there are now. Their number may change at any time."""

    async def endpoints(self) -> frozenset[Endpoint]:
        """Return where the engines are. Raises OSError: this cannot be told now."""
        ...


class Listed:
    """Engines by URL. A host with several addresses, as of a headless service, has one at each.

    Args:
        urls: of engines, with `http` or `https`. A certificate is for a name, so that a name after
            `https` is one engine, whatever its addresses are.
        key: the key of all of them.
    """

    def __init__(self, urls: Sequence[str], key: str | None = None) -> None:
        self._urls, self._key = tuple(url.rstrip("/") for url in urls), key

    async def endpoints(self) -> frozenset[Endpoint]:
        """See `Members`."""
        several = await asyncio.gather(*map(_each, self._urls))
        return frozenset(Endpoint(url, self._key) for urls in several for url in urls)


async def _each(url: str) -> list[str]:
    """Return the URL of each engine that `url` stands for. Raises OSError: no such host."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    if parts.scheme != "http" or is_loopback(host) or _is_address(host):
        return [url]
    loop = asyncio.get_running_loop()
    try:
        answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise OSError(f"the host of {url} cannot be found: {error.strerror}") from error
    # A pod with two families is one engine.
    families = {family for family, *_ in answers}
    family = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
    addresses = sorted({str(answer[4][0]) for answer in answers if answer[0] == family})
    if len(addresses) == 1:
        return [url]
    return [f"http://{_bracketed(address)}:{port}{parts.path}" for address in addresses]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
