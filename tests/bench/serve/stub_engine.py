"""A stand-in for vLLM that answers at once: `python -m tests.bench.serve.stub_engine PORT`.

It keeps nothing and spends little, so that a gateway in front of it is what is measured. Every path
that a gateway asks for gets the same chat, or the adapters that it knows: none.
"""

import asyncio
import json
import re
import sys
from typing import cast

import uvloop

_CHAT = json.dumps({
    "id": "chatcmpl-0", "object": "chat.completion", "created": 0, "model": "stub",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"},
                 "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}).encode()  # fmt: skip
_ADAPTERS = b'{"known": [], "resident": [], "running": {}, "loaded": true, "removed": true}'
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Stub(asyncio.Protocol):
    """One connection: requests with a Content-Length, one after the other."""

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has no base

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self._received += data
        while True:
            head, end, rest = self._received.partition(b"\r\n\r\n")
            length = _LENGTH.search(head)
            size = int(length[1]) if length else 0
            if not end or len(rest) < size:
                return
            self._received = rest[size:]
            line = head.partition(b"\r\n")[0]
            body = _ADAPTERS if b" /weft/" in line else _CHAT
            status = b"404 Not Found" if b" /weft/engine " in line else b"200 OK"
            self._transport.write(
                b"HTTP/1.1 %s\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%s" % (status, len(body), body)
            )


async def main() -> None:
    """Serve until the process is killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Stub, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
