"""A client of the Hugging Face Hub: list a repository, fetch files, find adapters.

Covered: pinning, sizes and hashes before and after a download, retries, time limits, and errors
that name the party at fault. It creates no links and keeps only the requested files.
Not covered: the content of the files (`registry.admission.admit`). The limit `download_seconds` is
checked only after each 10 MiB, the size of the client's reads, so a slow server can exceed it.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx2
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import logging
from huggingface_hub.utils.tqdm import tqdm

from registry.errors import RegistryError
from registry.sources.errors import HubDenied, HubFailed, HubNotFound
from registry.sources.hub_address import HubAddress
from registry.storage.errors import StorageFailed

_PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_LONGEST_WAIT_SECONDS = 300.0
_CHUNK_BYTES = 2**22
# Errors of huggingface_hub for an answer that is not the Hub's, such as a proxy's page.
SENSELESS = (ValueError, LookupError, TypeError, AttributeError, httpx2.InvalidURL)
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository, as its commit describes it."""

    path: str
    size: int
    sha256: str | None  # of a file in LFS or Xet
    git_sha1: str | None  # of any other: over "blob <size>\\0" and the bytes


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository's folder at one commit."""

    address: HubAddress  # pinned
    files: Mapping[str, HubFile]  # by name in the folder, without its subfolders


class _Broken(Exception):
    """The received bytes differ from the announced ones; a retry may help."""


class HubClient:
    """The Hub at `endpoint` (None: HF_ENDPOINT, or huggingface.co). Safe to share by threads.

    Args:
        endpoint: URL of the Hub.
        token: None takes HF_TOKEN, or the token of `hf auth login`; False sends none.
        timeout_seconds: the limit until the first byte of an answer.
        download_seconds: the limit for one file.
        tries: the number of attempts for a request that fails temporarily.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        token: str | Literal[False] | None = None,
        *,
        timeout_seconds: float = 30.0,
        download_seconds: float = 3600.0,
        tries: int = 4,
    ) -> None:
        quiet_client()
        self._api = HfApi(endpoint=endpoint, token=token, library_name="weft")
        self._timeout = timeout_seconds
        self._download_seconds = download_seconds
        self._tries = tries

    def look(self, address: HubAddress) -> Listing:
        """Return the files of a folder at the current commit of its revision.

        Raises:
            HubNotFound, HubDenied, HubFailed: the request failed.
        """
        info = self._retried(
            address,
            lambda: self._api.model_info(
                address.repo, revision=address.revision, files_metadata=True, timeout=self._timeout
            ),
        )
        if info.sha is None:
            raise HubFailed(str(address), "the Hub names no commit")
        files: dict[str, HubFile] = {}
        for entry in info.siblings or ():
            folder, _, name = entry.rfilename.rpartition("/")
            if folder == (address.subfolder or ""):
                sha256 = None if entry.lfs is None else entry.lfs.sha256
                sha1 = entry.blob_id if entry.lfs is None else None
                files[name] = HubFile(entry.rfilename, entry.size or 0, sha256, sha1)
        return Listing(address.at(info.sha), files)

    def fetch(self, listing: Listing, name: str, target: Path, *, scratch: Path) -> None:
        """Download one file of a listing to `target`, through the folder `scratch` beside it.

        Raises:
            HubNotFound, HubDenied, HubFailed: the request failed, or the bytes differ from the
                commit's (HubFailed).
            StorageFailed: the disk is full or unavailable.
        """
        file, address = listing.files[name], listing.address

        def download() -> Path:
            path = Path(
                self._api.hf_hub_download(
                    address.repo,
                    file.path,
                    revision=address.revision,
                    local_dir=scratch,
                    etag_timeout=self._timeout,
                    tqdm_class=_meter(file.size, time.monotonic() + self._download_seconds),
                )
            )
            _verify(path, file)
            return path

        self._retried(address, download).rename(target)

    def find(self, base: str, limit: int | None = None) -> Iterator[HubAddress]:
        """Yield the repositories that are tagged as PEFT adapters of a base, by its Hub id.

        The query is that of arXiv 2602.12323 (`collect_lora_experts.py` in its code); admission
        replaces the filters that follow there.

        Raises:
            HubNotFound, HubDenied, HubFailed: the request failed.
        """
        where = HubAddress(base)
        tags = ["peft", f"base_model:adapter:{base}"]
        try:
            for model in self._api.list_models(filter=tags, limit=limit):
                yield HubAddress(model.id)
        except (httpx2.HTTPError, OSError, *SENSELESS) as error:
            raise explained(where, error) from error

    def _retried(self, address: HubAddress, call: Callable[[], _R]) -> _R:
        for attempt in range(1, self._tries + 1):
            try:
                return call()
            except (httpx2.HTTPError, OSError, _Broken, *SENSELESS) as error:
                wait = _wait_before_next(error, attempt)
                if wait is None or attempt == self._tries or wait > _LONGEST_WAIT_SECONDS:
                    raise explained(address, error) from error
                time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")


def quiet_client() -> None:
    """Set up huggingface_hub for this process: files over HTTP, and no warnings."""
    # This module's limits and errors do not apply to Xet's own protocol; the Hub serves the same
    # files over HTTP.
    constants.HF_HUB_DISABLE_XET = True
    # The client's warnings contain signed URLs of private files.
    logging.get_logger("huggingface_hub").setLevel("ERROR")


def _wait_before_next(error: Exception, attempt: int) -> float | None:
    """Return the seconds to wait before a retry, or None if a retry cannot help."""
    if isinstance(error, HfHubHTTPError):
        if error.response.status_code not in _PASSING_STATUSES:
            return None
        delay = error.response.headers.get("Retry-After", "")
        return float(delay) if delay.isdecimal() else 2.0 ** (attempt - 1)
    if isinstance(error, httpx2.TransportError | _Broken) or _is_inconsistent(error):
        return 2.0 ** (attempt - 1)
    return None


def _is_inconsistent(error: Exception) -> bool:
    """Return whether the client reports a file of another size than announced (a plain OSError)."""
    return type(error) is OSError and error.errno is None


def explained(address: HubAddress, error: Exception) -> RegistryError:
    """Return the registry's error for an error of the client."""
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # the client also looked for a local copy
    where, status = str(address), _status(error)
    if isinstance(error, GatedRepoError) or status == 403:
        return HubDenied(where, "it is gated")
    if isinstance(error, RepositoryNotFoundError):
        return HubNotFound(where, "no such repository")
    if status == 401:
        return HubDenied(where, "the token is not valid")
    if isinstance(error, RevisionNotFoundError):
        return HubNotFound(where, "no such revision")
    if isinstance(error, EntryNotFoundError):
        return HubNotFound(where, "a file in it is missing")
    if isinstance(error, OfflineModeIsEnabled):
        return HubFailed(where, "HF_HUB_OFFLINE is set")
    if isinstance(error, OSError) and error.errno is not None:
        return StorageFailed(str(error))
    if isinstance(error, SENSELESS) and status is None:
        return HubFailed(where, "what answers there is not a Hub")
    reason = f"the Hub answered {status}" if status else str(error) or type(error).__name__
    return HubFailed(where, reason.splitlines()[0][:200])


def _status(error: Exception) -> int | None:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def _verify(path: Path, file: HubFile) -> None:
    """Compare a file with its commit's hash; delete the file if they differ."""
    hasher = hashlib.sha256() if file.sha256 else hashlib.sha1(usedforsecurity=False)
    if file.sha256 is None:
        hasher.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as data:
        while chunk := data.read(_CHUNK_BYTES):
            hasher.update(chunk)
    expected = file.sha256 or file.git_sha1
    if expected is not None and hasher.hexdigest() != expected:
        path.unlink()
        raise _Broken(f"the bytes of {file.path} do not match its commit")


def _meter(limit: int, deadline: float) -> type[Any]:
    """Return a silent progress bar that aborts a download over its limit of bytes or time."""

    class Meter(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **(kwargs | {"disable": True}))  # type: ignore[no-untyped-call]  # theirs
            self.received = 0.0

        def update(self, n: float | None = 1) -> bool | None:
            self.received += n or 0
            if self.received > limit:
                raise _Broken(f"the Hub sent more than the announced {limit} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError("the download took too long")
            return None

    return Meter
