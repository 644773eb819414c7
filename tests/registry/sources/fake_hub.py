"""A fake Hub on a loopback port: the routes that the client calls, with faults on demand.

GET  /api/models                                  the list of models, two a page
GET  /api/models/{repo}[/revision/{revision}]     a repository: commit, files, sizes, hashes
HEAD, GET /{repo}/resolve/{commit}/{path}         a file
POST, PUT                                         as fake_hub_writes.py says
"""

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

from tests.registry.sources.fake_hub_writes import Writes

PAGE = 2
_INFO = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([0-9a-f]{40})/(.+)")


@dataclass
class Fault:
    """A fault for the next `times` requests whose "METHOD path" matches `where`."""

    where: str  # a regular expression
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # bytes of the body, then the connection breaks
    stall: bool = False  # headers, and then nothing until the Hub closes
    other_bytes: bool = False  # of the same length
    extra_bytes: int = 0  # beyond what was announced
    times: int = 1
    page: bytes | None = None  # answered instead, as proxies do


@dataclass
class Repository:
    """Files by path at one commit, and the tags that a query matches."""

    files: dict[str, bytes]
    tags: tuple[str, ...] = ()
    lies: dict[str, int] = field(default_factory=dict)  # sizes that the listing gives instead

    @property
    def commit(self) -> str:
        """A commit that follows from the files."""
        text = json.dumps({path: _sha1(data) for path, data in sorted(self.files.items())})
        return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class FakeHub:
    """The server; `seen` counts requests by "METHOD path", `tokens` keeps their tokens."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.faults: list[Fault] = []
        self.seen: Counter[str] = Counter()
        self.tokens: list[str | None] = []
        self.writes = Writes(lambda: self.endpoint)
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """The URL of the server."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def bodies(self) -> list[str]:
        """The paths of files that were requested with GET, sorted."""
        return sorted(what.split("/", 5)[-1] for what in self.seen if _is_body(what))


def _is_body(what: str) -> bool:
    return what.startswith("GET ") and "/resolve/" in what


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

        def do_HEAD(self) -> None:
            self._serve()

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._write()

        def do_PUT(self) -> None:
            self._write()

        def _write(self) -> None:
            path = unquote(urlsplit(self.path).path)
            length = int(self.headers.get("Content-Length", "0"))
            with hub.lock:
                hub.seen[f"{self.command} {path}"] += 1
                if self.command == "POST":  # a PUT goes to a signed URL
                    hub.tokens.append(self.headers.get("Authorization"))
                status, answer = hub.writes.answer(path, self.rfile.read(length))
            for name, pushed in hub.writes.repositories.items():
                hub.repositories[name] = Repository(pushed.files)
            self._answer(status, json.dumps(answer).encode(), {})

        def _serve(self) -> None:
            url = urlsplit(self.path)
            path = unquote(url.path)
            what = f"{self.command} {path}"
            with hub.lock:
                hub.seen[what] += 1
                hub.tokens.append(self.headers.get("Authorization"))
                fault = next((f for f in hub.faults if f.times and re.search(f.where, what)), None)
                if fault is not None:
                    fault.times -= 1
            if fault is not None and fault.page is not None:
                self._answer(200, fault.page, {})
            elif fault is not None and fault.status is not None:
                self._answer(fault.status, b"", fault.headers)
            elif path == "/api/models":
                self._list(parse_qs(url.query))
            elif match := _INFO.fullmatch(path):
                self._info(match[1], match[2])
            elif match := _FILE.fullmatch(path):
                self._file(match[1], match[2], match[3], fault)
            else:
                self._missing("RepoNotFound")

        def _missing(self, code: str) -> None:
            self._answer(404, b"", {"X-Error-Code": code})

        def _list(self, query: dict[str, list[str]]) -> None:
            wanted = set(query.get("filter", ()))
            found = [n for n, r in sorted(hub.repositories.items()) if wanted <= set(r.tags)]
            start = int(query.get("start", ["0"])[0])
            body = json.dumps([{"id": name} for name in found[start : start + PAGE]]).encode()
            more = "".join(f"&filter={tag}" for tag in sorted(wanted))
            link = f'<{hub.endpoint}/api/models?start={start + PAGE}{more}>; rel="next"'
            self._answer(200, body, {"Link": link} if start + PAGE < len(found) else {})

        def _info(self, name: str, revision: str | None) -> None:
            repository = hub.repositories.get(name)
            if repository is None:
                self._missing("RepoNotFound")
                return
            if revision not in (None, "main", repository.commit):
                self._missing("RevisionNotFound")
                return
            siblings = []
            for path, data in repository.files.items():
                entry: dict[str, object] = {
                    "rfilename": path, "size": repository.lies.get(path, len(data)),
                    "blobId": _sha1(data),
                }  # fmt: skip
                if path.endswith((".safetensors", ".bin")):
                    sha = hashlib.sha256(data).hexdigest()
                    entry["lfs"] = {"size": len(data), "sha256": sha, "pointerSize": 130}
                siblings.append(entry)
            pushed = hub.writes.repositories.get(name)
            body = {
                "id": name, "sha": repository.commit, "siblings": siblings, "tags": [],
                "private": pushed is not None and pushed.private,
            }  # fmt: skip
            self._answer(200, json.dumps(body).encode(), {})

        def _file(self, name: str, commit: str, path: str, fault: Fault | None) -> None:
            repository = hub.repositories[name]
            data = repository.files.get(path)
            if data is None or commit != repository.commit:
                self._missing("EntryNotFound")
                return
            headers = {"X-Repo-Commit": commit, "ETag": f'"{_sha1(data)}"'}
            if path.endswith(".safetensors"):
                headers["X-Linked-Etag"] = f'"{hashlib.sha256(data).hexdigest()}"'
                headers["X-Linked-Size"] = str(len(data))
                headers["X-Xet-Hash"] = headers["X-Linked-Etag"]  # as for most files nowadays
                headers["X-Xet-Refresh-Route"] = f"{hub.endpoint}/xet"
            begin = int(self.headers.get("Range", "bytes=0-")[6:-1])
            self._answer(206 if begin else 200, data[begin:], headers, fault)

        def _answer(
            self, status: int, body: bytes, headers: Mapping[str, str], fault: Fault | None = None
        ) -> None:
            if fault is not None and fault.other_bytes:
                body = bytes(reversed(body))
            announced = len(body)
            body += b"x" * (fault.extra_bytes if fault is not None else 0)
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            if len(body) == announced:
                self.send_header("Content-Length", str(announced))
            else:
                self.send_header("Connection", "close")  # as long as it likes
            self.end_headers()
            if self.command == "HEAD":
                return
            if fault is not None and fault.stall:
                hub.closing.wait(30)
                self.close_connection = True
                return
            if fault is not None and fault.cut_after is not None:
                body = body[: fault.cut_after]
            self.wfile.write(body)
            self.close_connection = fault is not None

    return Handler
