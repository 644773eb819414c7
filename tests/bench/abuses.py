"""The abuses of an audit, as functions that send requests until they are told to stop.

Each is a thread's loop: `run` starts as many threads as the abuse takes and counts the answers by
status and error code. The sizes are the audit's.
"""

import io
import json
import socket
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import httpx

DEMO_ADAPTER = Path(__file__).parents[2] / "deploy" / "demo" / "adapters" / "zorp"
_TIMEOUT_SECONDS = 120.0
_TAR = {"content-type": "application/x-tar"}
_JSON = {"content-type": "application/json"}
_STREAM_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Target:
    """The gateway, and the key of the tenant that abuses it."""

    url: str
    key: str

    def http(self) -> httpx.Client:
        """Return a client with the key."""
        return httpx.Client(
            base_url=self.url, trust_env=False, timeout=_TIMEOUT_SECONDS,
            headers={"authorization": f"Bearer {self.key}"},
        )  # fmt: skip


Stopped: TypeAlias = Callable[[], bool]
Request: TypeAlias = Callable[[httpx.Client, int], httpx.Response]
Loop: TypeAlias = Callable[[Target, Stopped, int], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Abuse:
    """`threads` loops, each of which yields a word for every answer."""

    loop: Loop
    threads: int = 1


def requests(send: Request) -> Loop:
    """Return a loop that sends one request after another."""

    def loop(target: Target, stopped: Stopped, thread: int) -> Iterator[str]:
        with target.http() as http:
            number = thread * 1_000_000
            while not stopped():
                number += 1
                try:
                    yield _word(send(http, number))
                except httpx.HTTPError as error:
                    yield type(error).__name__

    return loop


def run(abuse: Abuse, target: Target, stopped: Stopped) -> Mapping[str, int]:
    """Run the loops until `stopped`; return the number of answers of each kind.

    A loop whose request has no answer when the others have ended is not waited for.
    """
    counts: Counter[str] = Counter()

    def count(thread: int) -> None:
        for word in abuse.loop(target, stopped, thread):
            counts[word] += 1

    for number in range(abuse.threads):
        threading.Thread(target=count, args=(number,), daemon=True).start()
    while not stopped():
        time.sleep(_STREAM_SECONDS)
    return dict(counts)


def _word(answer: httpx.Response) -> str:
    try:
        body = answer.json()
        code = body.get("code") or body.get("error", {}).get("code") or ""
    except (ValueError, AttributeError):
        code = ""
    return f"{answer.status_code} {code}".strip()


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _upload(files: Mapping[str, bytes]) -> Request:
    body = _tar(files)

    def send(http: httpx.Client, number: int) -> httpx.Response:
        return http.post(f"/registry/adapters/a/u{number}/-/versions", content=body, headers=_TAR)

    return send


def _nothing(http: httpx.Client, number: int) -> httpx.Response:
    time.sleep(0.1)
    return httpx.Response(200)


def _card_of_blanks() -> Request:
    return _upload({"README.md": b"---\nlicense:" + b" " * 10_000 + b"!\n---"})


def _long_base_name() -> Request:
    config = json.loads((DEMO_ADAPTER / "adapter_config.json").read_bytes())
    config["base_model_name_or_path"] = "-4bit" * 8_000 + "!"
    weights = (DEMO_ADAPTER / "adapter_model.safetensors").read_bytes()
    return _upload(
        {"adapter_config.json": json.dumps(config).encode(), "adapter_model.safetensors": weights}
    )


def _search(http: httpx.Client, number: int) -> httpx.Response:
    conditions = " ".join(f"module!=q{i}_{number}" for i in range(70))
    return http.get("/registry/search", params={"filter": conditions})


def _few_conditions(http: httpx.Client, number: int) -> httpx.Response:
    conditions = " ".join(f"module!=q{i}_{number}" for i in range(16))
    return http.get("/registry/search", params={"filter": conditions})


def _job(http: httpx.Client, number: int) -> httpx.Response:
    pattern = "(?i)" + "[\x01-\uffff]" * 190
    return http.post(
        "/registry/jobs",
        json={"training_file": "file-" + "0" * 24, "pattern": pattern, "seed": number},
    )


def _unknown_name(http: httpx.Client, number: int) -> httpx.Response:
    return _chat(http, f"nothing-is-registered-under-a-name-as-long-as-this-{number}")


def _chat(http: httpx.Client, model: str, **more: object) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "x"}], "max_tokens": 4} | more
    return http.post("/v1/chat/completions", json=body)


def _seed(http: httpx.Client, number: int) -> httpx.Response:
    return _chat(http, f"lego(zorp, blim, tref; seed={number})")


def _dear_expression(http: httpx.Client, number: int) -> httpx.Response:
    terms = ", ".join(f"{1 + i / 100:.2f}*zorp" for i in range(50))
    return _chat(http, f"lego({terms}; n_init=1000, seed={number})")


def _models(http: httpx.Client, number: int) -> httpx.Response:
    return http.get("/v1/models" if number % 2 else f"/v1/models/a{number % 1000 + 1}")


def _junk_key(http: httpx.Client, number: int) -> httpx.Response:
    return http.get("/v1/models", headers={"authorization": f"Bearer weft_{number:043d}"})


def _blanks(megabytes: int) -> Request:
    def chunks() -> Iterator[bytes]:
        for _ in range(megabytes):
            yield b" " * 2**20

    def send(http: httpx.Client, number: int) -> httpx.Response:
        return http.post("/registry/keys", content=chunks(), headers=_JSON)

    return send


def _brackets(path: str, megabytes: int) -> Request:
    body = b"[" + b"[]," * (megabytes * 2**20 // 3) + b"1]"

    def send(http: httpx.Client, number: int) -> httpx.Response:
        return http.post(path, content=body, headers=_JSON)

    return send


def _examples(http: httpx.Client, number: int) -> httpx.Response:
    name = "a/examples"
    if number % 1_000_000 == 1:
        _upload_as(http, name)
    texts = [f"{number} {i} " + "word " * 1_990 for i in range(100)]
    return http.put(f"/registry/adapters/{name}/-/examples", json={"examples": texts})


def _upload_as(http: httpx.Client, name: str) -> httpx.Response:
    files = {path.name: path.read_bytes() for path in DEMO_ADAPTER.iterdir() if path.is_file()}
    return http.post(f"/registry/adapters/{name}/-/versions", content=_tar(files), headers=_TAR)


def _trickle(target: Target, stopped: Stopped, thread: int) -> Iterator[str]:
    def chunks() -> Iterator[bytes]:
        while not stopped():
            yield b"\0"
            time.sleep(0.5)

    with target.http() as http:
        path = f"/registry/adapters/a/t{thread}/-/versions"
        try:
            yield _word(http.post(path, content=chunks(), headers=_TAR))
        except httpx.HTTPError as error:
            yield type(error).__name__


def _half_headers(target: Target, stopped: Stopped, thread: int) -> Iterator[str]:
    address = urlsplit(target.url)
    connections = []
    for _ in range(200):
        connection = socket.create_connection((address.hostname, address.port))
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Half")
        connections.append(connection)
    while not stopped():
        time.sleep(_STREAM_SECONDS)
    for connection in connections:
        connection.setblocking(False)
        try:
            yield "closed by the server" if connection.recv(1) == b"" else "answered"
        except BlockingIOError:
            yield "still open"
        except OSError:
            yield "closed by the server"


def _connections(target: Target, stopped: Stopped, thread: int) -> Iterator[str]:
    address = urlsplit(target.url)
    while not stopped():
        with socket.create_connection((address.hostname, address.port)):
            yield "dropped"


ABUSES: Mapping[str, Abuse] = {
    "nothing": Abuse(requests(_nothing)),
    "card of blanks": Abuse(requests(_card_of_blanks())),
    "long base name": Abuse(requests(_long_base_name())),
    "70 conditions": Abuse(requests(_search), 6),
    "16 conditions": Abuse(requests(_few_conditions), 6),
    "refused jobs": Abuse(requests(_job), 12),
    "unknown names": Abuse(requests(_unknown_name), 24),
    "seeds of one expression": Abuse(requests(_seed), 64),
    "dear expression": Abuse(requests(_dear_expression), 2),
    "list of models": Abuse(requests(_models), 4),
    "junk keys": Abuse(requests(_junk_key), 8),
    "300 MB of blanks": Abuse(requests(_blanks(300))),
    "20 MB of brackets": Abuse(requests(_brackets("/registry/keys", 20))),
    "31 MB of brackets to chat": Abuse(requests(_brackets("/v1/chat/completions", 31))),
    "examples": Abuse(requests(_examples)),
    "trickling uploads": Abuse(_trickle, 8),
    "half-sent headers": Abuse(_half_headers),
    "dropped connections": Abuse(_connections, 2),
}
