"""URLs of object stores, and errors that keep what the store answered to themselves."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.storage.errors import StoreUnavailable, StoreUrlInvalid
from registry.storage.objects import Objects, RequestLimits, checked_store_url

QUICK = RequestLimits(timeout_seconds=2, retry_seconds=0)
SECRET, KEY_ID = "wJalrXUtnFEMI", "AKIAIOSFODNN7EXAMPLE"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://bucket.example", "scheme"), ("/srv/weft", "scheme"), ("s3://", "no bucket"),
        ("s3://key:secret@bucket/weft", "credentials"), ("s3://key@bucket", "credentials"),
        ("az://box/weft?sig=secret", "credentials"), ("file://srv/weft", "whole path"),
    ],
)  # fmt: skip
def test_a_url_is_refused_without_its_secrets(url: str, reason: str) -> None:
    """A URL that is no store's, or has credentials, is refused, and the error does not repeat
    it."""
    with pytest.raises(StoreUrlInvalid, match=reason) as refusal:
        checked_store_url(url)
    assert "secret" not in str(refusal.value)


def test_a_url_loses_its_trailing_slash() -> None:
    """`s3://bucket/weft/` and `s3://bucket/weft` are one store."""
    assert "s3://bucket/weft" == checked_store_url("s3://bucket/weft/")


def test_a_folder_is_made(tmp_path: Path) -> None:
    """The folder of a file:// store is created."""
    Objects(f"file://{tmp_path}/a/b").put("c", b"d")
    assert b"d" == (tmp_path / "a/b/c").read_bytes()


class _Refusing(http.server.BaseHTTPRequestHandler):
    """Answers as S3 does to a wrong signature."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = f"<Error><AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId>{self.headers}</Error>".encode()
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.HTTPServer]:
    """A server that refuses every request, at which the environment's S3 is."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "reason"),
    [(403, "access is denied"), (401, "credentials"), (500, "status 500"), (404, "no such bucket")],
)
def test_an_error_repeats_nothing_of_the_answer(
    refusing: http.server.HTTPServer, status: int, reason: str
) -> None:
    """An error says what is wrong with the store in weft's words, without key or signature."""
    refusing.status = status  # type: ignore[attr-defined]
    with pytest.raises(StoreUnavailable, match=reason) as error:
        Objects("s3://bucket/weft", QUICK).put("a", b"b")
    assert not any(secret in str(error.value) for secret in (KEY_ID, SECRET, "Signature"))
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__


def test_a_store_that_is_gone_is_named(
    refusing: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused connection is told with the URL of the store."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreUnavailable, match=r"s3://bucket/weft .*no connection"):
        Objects("s3://bucket/weft", QUICK).get("a")


def test_a_missing_file_is_not_an_error_of_the_store(tmp_path: Path) -> None:
    """A file that cannot be uploaded because it is gone is the caller's FileNotFoundError."""
    with pytest.raises(FileNotFoundError):
        Objects("memory://missing").upload(tmp_path / "gone", "key")
