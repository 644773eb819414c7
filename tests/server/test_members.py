"""Engines by URL, and by names that stand for several."""

import asyncio
import socket
from typing import Any

import pytest

from server.engine.members import Listed

SERVICE = "engines.example.internal"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Addresses by host name; what is missing cannot be resolved."""
    records: dict[str, list[str]] = {}

    async def answer(_loop: Any, host: str, port: int, **_: Any) -> list[Any]:
        if host not in records:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, 1, 6, "", (each, port))
            for each in records[host]
        ]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", answer)
    return records


async def urls(*listed: str) -> set[str]:
    """Return the URLs of the engines that `listed` stand for."""
    return {endpoint.url for endpoint in await Listed(listed).endpoints()}


async def test_a_name_with_several_addresses_is_an_engine_at_each(
    names: dict[str, list[str]],
) -> None:
    """A headless service is all of its pods; a pod with two families is one engine."""
    names[SERVICE] = ["10.0.0.2", "10.0.0.1", "10.0.0.2", "fd00::1"]
    assert {"http://10.0.0.1:8000", "http://10.0.0.2:8000"} == await urls(f"http://{SERVICE}:8000")
    names[SERVICE] = ["fd00::1", "fd00::2"]
    assert {"http://[fd00::1]:8000", "http://[fd00::2]:8000"} == await urls(
        f"http://{SERVICE}:8000/"
    )


async def test_other_urls_are_engines_as_they_are(names: dict[str, list[str]]) -> None:
    """Addresses, loopback names, names after https and names with one address stay as written."""
    names["gpu-1"], names["gpu-2"] = ["10.0.0.1"], ["10.0.0.2", "10.0.0.3"]
    written = {
        "http://127.0.0.1:1", "http://[::1]:2", "http://localhost:3", "https://gpu-2", "http://gpu-1",
    }  # fmt: skip
    assert written == await urls(*written)


async def test_a_name_that_is_not_there_is_told(names: dict[str, list[str]]) -> None:
    """The error names the URL."""
    assert not names
    with pytest.raises(OSError, match=f"the host of http://{SERVICE}:8000 cannot be found"):
        await urls(f"http://{SERVICE}:8000")
