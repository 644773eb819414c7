"""Faults of the Hub: errors name the cause, waits are respected, and nothing partial is stored."""

import io
import logging
from dataclasses import replace

import pytest
from huggingface_hub import constants

from registry.sources.errors import HubDenied, HubFailed, HubNotFound
from registry.sources.hub import HubImport
from registry.sources.hub_address import HubAddress, parse_address
from registry.sources.hub_client import HubClient
from registry.sources.outcome import Imported
from registry.storage.blobs import LocalBlobs
from registry.storage.errors import StorageFailed
from tests.registry.sources.conftest import Put
from tests.registry.sources.fake_hub import FakeHub, Fault

WEIGHTS = r"GET .*adapter_model\.safetensors"
FOREVER = 10**6


def run(importer: HubImport, text: str = "acme/legal") -> Imported:
    """Import one address."""
    (done,) = importer.run([parse_address(text)])
    return done


@pytest.mark.parametrize(
    ("text", "fault", "kind", "said"),
    [
        ("acme/nothing", None, HubNotFound, "no such repository"),
        ("acme/legal@v9", None, HubNotFound, "no such revision"),
        ("acme/legal", Fault("GET /api", 401, {"X-Error-Code": "RepoNotFound"}), HubNotFound,
         "private"),
        ("acme/legal", Fault("GET /api", 401,
                             {"X-Error-Message": "Invalid credentials in Authorization header"}),
         HubDenied, "token"),
        ("acme/legal", Fault("HEAD", 401, {"X-Error-Code": "GatedRepo"}, times=9), HubDenied,
         "gated"),
        ("acme/legal", Fault("GET /api", 403), HubDenied, "gated"),
        ("acme/legal", Fault("HEAD", 404, {"X-Error-Code": "EntryNotFound"}), HubNotFound, "file"),
        ("acme/legal", Fault("GET /api", 418), HubFailed, "418"),
    ],
)  # fmt: skip
def test_what_no_waiting_mends_is_said_at_once(
    importer: HubImport, hub: FakeHub, put: Put, sleeps: list[float], text: str,
    fault: Fault | None, kind: type[Exception], said: str,
) -> None:  # fmt: skip
    """Missing, gated and private repositories have their own errors, without a wait."""
    put("acme/legal")
    hub.faults += [replace(fault)] if fault is not None else []
    done = run(importer, text)
    assert isinstance(done.outcome, kind)
    assert said in str(done.outcome)
    assert "acme/" in str(done.outcome)
    assert [] == sleeps


@pytest.mark.parametrize("where", ["GET /api", "HEAD", WEIGHTS])
def test_a_rate_limit_is_waited_out(
    importer: HubImport, hub: FakeHub, put: Put, sleeps: list[float], where: str
) -> None:
    """The client waits for the Retry-After of a 429 on any route and continues."""
    put("acme/legal")
    hub.faults.append(Fault(where, 429, {"Retry-After": "7"}, times=2))
    assert "admitted" == run(importer).verdict
    assert max(sleeps) >= 7


def test_a_rate_limit_of_an_hour_is_a_failure(
    importer: HubImport, hub: FakeHub, put: Put, sleeps: list[float]
) -> None:
    """A wait that is too long is an error."""
    put("acme/legal")
    hub.faults.append(Fault("GET /api", 429, {"Retry-After": "3600"}))
    done = run(importer)
    assert isinstance(done.outcome, HubFailed)
    assert "429" in str(done.outcome)
    assert [] == sleeps


@pytest.mark.parametrize("where", ["GET /api", "HEAD", WEIGHTS])
def test_a_hub_that_stumbles_is_tried_again(
    importer: HubImport, hub: FakeHub, put: Put, sleeps: list[float], where: str
) -> None:
    """Occasional 503s are retried."""
    put("acme/legal")
    hub.faults.append(Fault(where, 503, times=2))
    assert "admitted" == run(importer).verdict
    assert sleeps


@pytest.mark.parametrize("where", ["GET /api", WEIGHTS])
def test_a_hub_that_stays_down_is_a_failure(
    importer: HubImport, hub: FakeHub, put: Put, sleeps: list[float], where: str
) -> None:
    """After the last attempt the error has the Hub's answer."""
    put("acme/legal")
    hub.faults.append(Fault(where, 500, times=FOREVER))
    done = run(importer)
    assert isinstance(done.outcome, HubFailed)
    assert "500" in str(done.outcome)


def test_no_hub_at_all_is_a_failure(importer: HubImport, sleeps: list[float]) -> None:
    """A refused connection is named in the error."""
    client = HubClient("http://127.0.0.1:9", tries=2)
    done = run(HubImport(importer.registry, client, 2**30))
    assert isinstance(done.outcome, HubFailed)


def test_a_cut_connection_is_taken_up_where_it_broke(
    importer: HubImport, hub: FakeHub, put: Put, sleeps: list[float]
) -> None:
    """The client requests the rest of the file, and no log has the file's address."""
    put("acme/legal")
    hub.faults.append(Fault(WEIGHTS, cut_after=100, times=2))
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logging.getLogger("huggingface_hub").addHandler(handler)
    assert "admitted" == run(importer).verdict
    logging.getLogger("huggingface_hub").removeHandler(handler)
    assert "" == said.getvalue()


def test_a_connection_that_is_always_cut_is_a_failure(
    importer: HubImport, hub: FakeHub, put: Put, sleeps: list[float], blobs: LocalBlobs
) -> None:
    """No part of the file is kept."""
    put("acme/legal")
    hub.faults.append(Fault(WEIGHTS, cut_after=0, times=FOREVER))
    assert isinstance(run(importer).outcome, HubFailed)
    assert frozenset() == blobs.digests()


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json", "README.md"])
def test_wrong_bytes_are_found_and_fetched_again(
    importer: HubImport, hub: FakeHub, put: Put, sleeps: list[float], file: str
) -> None:
    """Each file is compared with its commit's hash: SHA-256 in LFS, otherwise git's."""
    put("acme/legal")
    hub.faults.append(Fault(f"GET .*{file}", other_bytes=True))
    assert "admitted" == run(importer).verdict
    assert 2 == sum(n for what, n in hub.seen.items() if what.startswith("GET") and file in what)


def test_bytes_that_stay_wrong_are_a_failure(
    importer: HubImport, hub: FakeHub, put: Put, sleeps: list[float], blobs: LocalBlobs
) -> None:
    """The error names the file, and nothing is stored."""
    put("acme/legal")
    hub.faults.append(Fault(WEIGHTS, other_bytes=True, times=FOREVER))
    done = run(importer)
    assert isinstance(done.outcome, HubFailed)
    assert "the bytes of adapter_model.safetensors do not match" in str(done.outcome)
    assert frozenset() == blobs.digests()


def test_more_bytes_than_announced_are_not_taken(
    importer: HubImport, hub: FakeHub, put: Put, sleeps: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A download stops at the announced size."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)
    put("acme/legal")
    hub.faults.append(Fault(WEIGHTS, extra_bytes=10**6, times=FOREVER))
    done = run(importer)
    assert isinstance(done.outcome, HubFailed)
    assert "announced" in str(done.outcome)


def test_a_server_that_falls_silent_is_given_up(
    importer: HubImport, hub: FakeHub, put: Put, sleeps: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A stalled transfer ends at its time limit and does not delay later imports."""
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.05)
    put("acme/legal")
    hub.faults.append(Fault(WEIGHTS, stall=True, times=FOREVER))
    assert isinstance(run(importer).outcome, HubFailed)
    hub.faults.clear()
    assert "admitted" == run(importer).verdict


def test_a_file_that_takes_too_long_is_given_up(
    importer: HubImport, hub: FakeHub, put: Put, sleeps: list[float]
) -> None:
    """The time limit covers the whole file."""
    put("acme/legal")
    client = HubClient(hub.endpoint, download_seconds=-1.0)
    done = run(HubImport(importer.registry, client, 2**30))
    assert isinstance(done.outcome, HubFailed)
    assert "too long" in str(done.outcome)


def test_failures_are_not_remembered(
    importer: HubImport, hub: FakeHub, put: Put, sleeps: list[float]
) -> None:
    """The next run tries a failed import again."""
    put("acme/legal")
    hub.faults.append(Fault("GET /api", 404, {"X-Error-Code": "RepoNotFound"}))
    assert isinstance(run(importer).outcome, HubNotFound)
    assert "admitted" == run(importer).verdict


def test_a_full_disk_is_not_the_hubs_fault(
    importer: HubImport, put: Put, blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local error is reported as one."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    put("acme/legal")
    monkeypatch.setattr("registry.sources.hub_client._verify", full)
    with pytest.raises(StorageFailed, match="No space left"):
        run(importer)


@pytest.mark.parametrize("page", [b"<html>Log in", b"[1]", b'{"id": "a", "siblings": [1]}'])
def test_what_is_no_hub_is_said(
    importer: HubImport, hub: FakeHub, put: Put, sleeps: list[float], page: bytes
) -> None:
    """A proxy's page or other JSON is one sentence, for an import and for a query."""
    put("acme/legal")
    hub.faults.append(Fault("GET /api", page=page, times=FOREVER))
    done = run(importer)
    assert isinstance(done.outcome, HubFailed)
    assert "not a Hub" in str(done.outcome)
    with pytest.raises(HubFailed, match="not a Hub"):
        list(HubClient(hub.endpoint).find("acme/Tiny-Instruct"))
    assert [] == sleeps


def test_a_query_that_fails_is_an_error_of_ours(hub: FakeHub, sleeps: list[float]) -> None:
    """A query that fails, even between pages, raises a registry error."""
    hub.faults.append(Fault("GET /api/models$", 500, times=FOREVER))
    with pytest.raises(HubFailed, match="500"):
        list(HubClient(hub.endpoint).find("acme/Tiny-Instruct"))


def test_offline_mode_is_said(
    importer: HubImport, monkeypatch: pytest.MonkeyPatch, sleeps: list[float]
) -> None:
    """The error names HF_HUB_OFFLINE."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    done = next(iter(importer.run([HubAddress("acme/legal")])))
    assert isinstance(done.outcome, HubFailed)
    assert "HF_HUB_OFFLINE" in str(done.outcome)
