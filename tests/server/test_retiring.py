"""A version that is retired while its answers stream."""

import asyncio
from collections.abc import Callable

from httpx import AsyncClient

from registry.references import parse_reference
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from server.app import create_app
from server.gateway import Gateway
from tests.server.asgi import CHAT, ask
from tests.server.slow import SlowResponse


async def test_a_version_retired_while_it_streams(
    client: AsyncClient, gateway: Gateway, registry: Registry, versions: LocalBlobs,
    digest_of: Callable[[str], str], slow: SlowResponse,
) -> None:  # fmt: skip
    """Answers that have begun come to their end, of the version and of a merge of it; the next
    request for either is 410, and nothing is leased any more."""
    registry.adapters.register(versions.path(digest_of("zorp")), name="leaving")
    models = ("leaving", "leaving@1", "cat(0.5*leaving)")
    app = create_app(gateway)
    exchanges = [ask(model, stream=True) for model in models]
    running = [asyncio.create_task(exchange.run(app)) for exchange in exchanges]
    async with asyncio.timeout(60):
        for exchange in exchanges:
            await exchange.started.wait()
    registry.versions.retire(parse_reference("leaving@1"), "ada")
    refused = [await client.post(CHAT, json={"model": model}) for model in models]
    slow.go_on.set()
    await asyncio.gather(*running)

    for exchange in exchanges:
        assert (200, True) == (exchange.status, exchange.complete)
        assert exchange.body.endswith(b"data: [DONE]\n\n")
    for model, response in zip(models, refused, strict=True):
        assert response.status_code in (404, 410), (model, response.text)
    assert 410 == refused[1].status_code
    assert 0 == gateway.leases.total()
