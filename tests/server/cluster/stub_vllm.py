"""A program in the place of vLLM for tests of routing: it loads what its folder has, and answers
with what it is: its process and the adapter of the request.

It takes vLLM's arguments and variables. Not covered: any text of a model.
"""

import argparse
import json
import os
import signal
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from server.engine.fetching import NodeUnavailable, NotFetched, fetch

_LOADED: set[str] = set()
_RUNNING: Counter[str] = Counter()
_LOCK = threading.Lock()


class Engine(BaseHTTPRequestHandler):
    """vLLM's routes with weft's plug-in, as far as a gateway asks for them."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """List the adapters; announce nothing, as an older plug-in."""
        if self.path == "/weft/engine":
            self._answer(404, {"detail": "Not Found"})
        elif self._known():
            loaded = sorted(_LOADED)
            self._answer(200, {"known": loaded, "resident": loaded, "running": dict(_RUNNING)})

    def do_POST(self) -> None:
        """Load an adapter, or answer a chat."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if not self._known():
            return
        digest = self.path.rpartition("/")[2]
        if self.path.startswith("/weft/"):
            folder = Path(os.environ["WEFT_ARTIFACTS"]) / digest
            try:
                if not folder.is_dir():
                    fetch(digest)
            except (NotFetched, NodeUnavailable) as error:
                self._answer(422, {"detail": str(error)})
                return
            _LOADED.add(digest)
            self._answer(200, {"loaded": True})
            return
        model = json.loads(body)["model"]
        if len(model) == 64 and model not in _LOADED:
            self._answer(404, {"error": {"message": f"no {model}"}})
            return
        self._answer(200, {"model": model, "pid": os.getpid()})

    def do_DELETE(self) -> None:
        """Remove an adapter."""
        if self._known():
            _LOADED.discard(self.path.rpartition("/")[2])
            self._answer(200, {"removed": True})

    def _known(self) -> bool:
        if self.headers["authorization"] == f"Bearer {os.environ['VLLM_API_KEY']}":
            return True
        self._answer(401, {"detail": "the engine's key is wrong or missing"})
        return False

    def _answer(self, status: int, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


def main() -> None:
    """Serve until SIGTERM, or until the process that started this one is gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    arguments, _ = parser.parse_known_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    lifeline = int(os.environ["WEFT_LIFELINE"])
    threading.Thread(target=lambda: (os.read(lifeline, 1), os._exit(1)), daemon=True).start()
    ThreadingHTTPServer((arguments.host, arguments.port), Engine).serve_forever()


if __name__ == "__main__":
    main()
