"""A relay that does nothing else: `python -m tests.bench.serve.bare_relay URL KEY PORT`.

URL and KEY are the engine's. It is what a gateway in Python costs at least: the same server and
client as weft's, and no keys, no names, no limits, no counting. Requests name the model as the
engine knows it.
"""

import sys

import aiohttp
import uvicorn
from starlette.types import Receive, Scope, Send

_sessions: list[aiohttp.ClientSession] = []


async def relay(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a request on and its answer back."""
    if scope["type"] != "http":
        return
    if not _sessions:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2)
        _sessions.append(aiohttp.ClientSession(connector=connector, auto_decompress=False))
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    headers = {"content-type": "application/json", "authorization": f"Bearer {sys.argv[2]}"}
    async with _sessions[0].post(sys.argv[1] + scope["path"], data=body, headers=headers) as answer:
        kind = answer.headers["content-type"].encode()
        start = {"type": "http.response.start", "headers": [(b"content-type", kind)]}
        await send({**start, "status": answer.status})
        while part := await answer.content.readany():
            await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})


if __name__ == "__main__":
    uvicorn.run(relay, port=int(sys.argv[3]), loop="uvloop", log_level="error", access_log=False)
