"""A proxy in front of an HTTP server that fails as clouds do: refusals, and answers cut off."""

import http.client
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# What a proxy does with a request: forwards it (None), answers with a status, or cuts the answer.
Fate = Callable[[str, str], int | None]
CUT = 0


class Proxy(http.server.ThreadingHTTPServer):
    """Forwards requests to a port as they are, unless `fate` wants something else."""

    def __init__(self, port: int, fate: Fate) -> None:
        self.upstream, self.fate = port, fate
        self.failed = 0
        super().__init__(("127.0.0.1", 0), _Forwarding)


class _Forwarding(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fate = self.server.fate(self.command, self.path)
        if fate:
            self.server.failed += 1
            self._answer(fate, [], b"<Error><Code>SlowDown</Code></Error>")
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        try:
            # With the client's Host header, which the signature covers.
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException):
            self.close_connection = True
            return
        finally:
            upstream.close()
        if fate == CUT and len(data) > 1:
            self.server.failed += 1
            self._answer(answer.status, answer.getheaders(), data, cut=True)
            return
        self._answer(answer.status, answer.getheaders(), data)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _forward  # noqa: N815

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool = False
    ) -> None:
        self.send_response_only(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length":
                length = value
            elif name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = cut

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@contextmanager
def proxy(port: int, fate: Fate) -> Iterator[Proxy]:
    """Yield a proxy in front of a port."""
    server = Proxy(port, fate)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
