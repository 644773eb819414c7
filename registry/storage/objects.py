"""An object store by URL: s3://, gs://, az://, file:// or memory://, through obstore.

Every method blocks: call it in a thread. Credentials come from the cloud's own environment
variables. An error never repeats what the store answered, since S3 puts the access key's id and the
signature into its answers. Not covered: what the objects are (`bucket`).
"""

import os
import re
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from registry.storage.errors import StoreUnavailable, StoreUrlInvalid

if TYPE_CHECKING:
    from obstore.store import ClientConfig, MemoryStore, ObjectStore, RetryConfig

T = TypeVar("T")
SCHEMES = ("s3", "gs", "az", "file", "memory")
# One request carries at most this much, so that a time limit for requests fits small links too.
PIECE_BYTES = 16 * 2**20
_PIECES_AT_ONCE = 4
_CONNECT_SECONDS = 5.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 2.0
# The time limit ends the retries; their number is bounded only so that it is finite.
_MOST_RETRIES = 1000
_ALLOW_HTTP = {"s3": "AWS_ALLOW_HTTP", "gs": "GOOGLE_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}
# Machines of a cloud get credentials here; without any of its own obstore asks there.
_METADATA_ADDRESS = "169.254.169.254"
_BROKEN = "kind: Interrupted"
_NO_BUCKET = "there is no such bucket or folder"
_STATUS = {
    "401": "the credentials are not accepted", "403": "access is denied", "404": _NO_BUCKET,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Time limits of requests to a store.

    Attributes:
        timeout_seconds: of one request, which carries at most `PIECE_BYTES`.
        retry_seconds: the time after which a failed request is not repeated any more; 0: never.
    """

    timeout_seconds: float = 30.0
    retry_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a listing."""

    key: str
    nbytes: int
    modified: float  # Unix time, by the store's clock


class AlreadyThere(Exception):
    """The object to create exists."""


def checked_store_url(url: str) -> str:
    """Return the URL of a store without a trailing slash.

    Raises:
        StoreUrlInvalid: the scheme is unknown, a part is missing, or the URL has credentials.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise StoreUrlInvalid("its scheme is unknown")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise StoreUrlInvalid(
            "it has credentials or a query: use the variables of the cloud, such as "
            "AWS_ACCESS_KEY_ID"
        )
    if parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/"):
            raise StoreUrlInvalid("a folder needs its whole path, with three slashes in front")
    elif parts.scheme != "memory" and not parts.netloc:
        raise StoreUrlInvalid("it names no bucket")
    return url if parts.scheme == "memory" else url.rstrip("/")


class Objects:
    """The objects below one URL, by key. Threads may share it.

    Raises:
        StoreUrlInvalid: see `checked_store_url`; or the extra `bucket` is not installed.
        StoreUnavailable: by the constructor, if the settings of the cloud are incomplete. Every
            method raises it if the store cannot be reached, refuses the request or has no such
            bucket.
    """

    def __init__(self, url: str, limits: RequestLimits | None = None) -> None:
        self.url = checked_store_url(url)
        try:
            import obstore
        except ModuleNotFoundError as error:
            raise StoreUrlInvalid("install weft with the extra `bucket`") from error
        self._obstore: Any = obstore
        self.failing = False  # whether the latest request failed
        self._limits = limits or RequestLimits()
        self._store: ObjectStore = self._ask(lambda: _opened(self.url, self._limits))

    def put(self, key: str, data: bytes) -> None:
        """Write an object, which readers see whole or not at all."""
        self._ask(lambda: self._obstore.put(self._store, key, data), missing=_NO_BUCKET)

    def create(self, key: str, data: bytes) -> None:
        """Write an object that does not exist yet; of several writers one succeeds.

        Raises:
            AlreadyThere: it exists.
        """
        create = partial(self._obstore.put, mode="create", use_multipart=False)
        self._ask(lambda: create(self._store, key, data), missing=_NO_BUCKET)

    def upload(self, file: Path, key: str) -> None:
        """Write a file as an object, in pieces; a stopped upload leaves nothing visible.

        Raises:
            OSError: the file cannot be read.
        """
        with file.open("rb"):  # obstore's error of an unreadable file is one of the store
            pass
        put = partial(self._obstore.put, chunk_size=PIECE_BYTES, max_concurrency=_PIECES_AT_ONCE)
        self._ask(lambda: put(self._store, key, file), missing=_NO_BUCKET)

    def get(self, key: str) -> bytes:
        """Return the bytes of a small object.

        Raises:
            FileNotFoundError: there is none.
        """
        return self._ask(lambda: bytes(self._obstore.get(self._store, key).bytes()))

    def download(self, key: str, nbytes: int, file: Path) -> None:
        """Write an object of `nbytes` into a new file, in pieces that are requested concurrently.

        Raises:
            FileNotFoundError: there is no such object.
            OSError: the disk is full or gone.
        """
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            with ThreadPoolExecutor(_PIECES_AT_ONCE, thread_name_prefix="weft-pieces") as threads:
                starts = range(0, nbytes, PIECE_BYTES)
                for _ in threads.map(lambda at: self._piece(key, at, nbytes, descriptor), starts):
                    pass
        finally:
            os.close(descriptor)

    def _piece(self, key: str, start: int, nbytes: int, descriptor: int) -> None:
        length = min(PIECE_BYTES, nbytes - start)
        get = partial(self._obstore.get_range, start=start, length=length)
        data = memoryview(self._ask(lambda: get(self._store, key)))
        while data:
            written = os.pwrite(descriptor, data, start)
            data, start = data[written:], start + written

    def list(self, prefix: str) -> list[ObjectInfo]:
        """Return the objects whose keys begin with the path `prefix`, in folders too."""
        return self._ask(
            lambda: [
                ObjectInfo(item["path"], item["size"], item["last_modified"].timestamp())
                for batch in self._obstore.list(self._store, prefix, chunk_size=1000)
                for item in batch
            ]
        )

    def check(self) -> None:
        """Do what weft needs of a store: create an object, be refused a second time, read, remove.

        Raises:
            StoreUnavailable: the store does not do it.
        """
        key, data = f"checks/{uuid.uuid4().hex}", b"weft"
        self.create(key, data)
        try:
            with suppress(AlreadyThere):
                self.create(key, b"another")
                raise StoreUnavailable(self.url, "it ignores If-None-Match, so that writers race")
            if self.get(key) != data:
                raise StoreUnavailable(self.url, "it returns other bytes than were written")
        except FileNotFoundError:
            raise StoreUnavailable(self.url, "it lacks an object just after its write") from None
        finally:
            self.delete(key)

    def delete(self, *keys: str) -> None:
        """Remove objects, if they exist."""
        for key in keys:
            # One at a time: stores differ in what they say of a missing object among many.
            with suppress(FileNotFoundError):
                self._ask(partial(self._obstore.delete, self._store, key))

    def _ask(self, call: Callable[[], T], missing: str | None = None) -> T:
        """Return what a call of obstore returns, made again if its connection broke.

        obstore repeats refused requests and goes on with a broken download itself. It gives up when
        the answer to another request breaks off. All calls here may be made twice.

        Args:
            call: what to ask.
            missing: what a missing object means; None: that it is missing.

        Raises:
            AlreadyThere, FileNotFoundError: as the store says.
            StoreUnavailable: in weft's words, as it repeats nothing of the store's answer.
        """
        errors, started = self._obstore.exceptions, time.monotonic()
        while True:
            try:
                answer = call()
            except errors.AlreadyExistsError:
                self.failing = False
                raise AlreadyThere from None
            except FileNotFoundError:
                self.failing = missing is not None
                if missing is not None:
                    raise StoreUnavailable(self.url, missing) from None
                raise FileNotFoundError("there is no such object") from None
            except errors.BaseError as error:
                waited = time.monotonic() - started + _FIRST_PAUSE_SECONDS
                if _BROKEN not in str(error) or waited > self._limits.retry_seconds:
                    self.failing = True
                    raise StoreUnavailable(self.url, _reason(error)) from None
                time.sleep(_FIRST_PAUSE_SECONDS)
            else:
                self.failing = False
                return answer


@cache
def _memory(url: str) -> "MemoryStore":
    """Return the memory that a URL names: one for all of this process."""
    del url
    from obstore.store import MemoryStore

    return MemoryStore()


def _opened(url: str, limits: RequestLimits) -> "ObjectStore":
    from obstore.store import LocalStore, from_url

    scheme, _, place = url.partition("://")
    if scheme == "memory":
        return _memory(url)
    if scheme == "file":
        return LocalStore(place, mkdir=True)
    timeout = timedelta(seconds=limits.timeout_seconds)
    client: ClientConfig = {
        # obstore reads this variable too, but not beside other options of the client.
        "allow_http": os.environ.get(_ALLOW_HTTP[scheme], "").lower() in ("1", "true"),
        "timeout": timeout,
        "connect_timeout": min(timeout, timedelta(seconds=_CONNECT_SECONDS)),
    }
    retries: RetryConfig = {
        "max_retries": _MOST_RETRIES if limits.retry_seconds else 0,
        "retry_timeout": timedelta(seconds=limits.retry_seconds),
        "backoff": {
            "init_backoff": timedelta(seconds=_FIRST_PAUSE_SECONDS),
            "max_backoff": timedelta(seconds=_LONGEST_PAUSE_SECONDS),
        },
    }
    return from_url(url, client_options=client, retry_config=retries)


def _reason(error: Exception) -> str:
    """Return what is wrong in words of weft's own, with the HTTP status if there is one."""
    head, _, detail = str(error).partition("Debug source")
    if _METADATA_ADDRESS in head:
        return "the environment has no credentials for it"
    if "Account must be specified" in head:
        return "AZURE_STORAGE_ACCOUNT_NAME is not set"
    if status := re.search(r"status code: (\d{3})", head):
        return _STATUS.get(status[1], f"it answered with status {status[1]}")
    if "kind: Timeout" in detail or "timed out" in head:
        return "no answer in time"
    if "HTTP error" in head:
        return "no connection"
    if code := re.search(r"\(os error (\d+)\)|code: (\d+)", str(error)):
        return os.strerror(int(code[1] or code[2]))
    return f"the request failed: {type(error).__name__}"
