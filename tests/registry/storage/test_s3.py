"""The object store on a real S3 server: its contract, failing requests, and a killed server."""

import itertools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from merge.peft_format import CONFIG_NAME, WEIGHTS_NAME, digest_folder
from registry.storage.blobs import LocalBlobs
from registry.storage.bucket import Bucket
from registry.storage.errors import StoreUnavailable
from registry.storage.objects import PIECE_BYTES, AlreadyThere, Objects, RequestLimits
from tests.flaky_proxy import CUT, proxy
from tests.seaweed import Seaweed, seaweed

pytestmark = pytest.mark.slow
URL = "s3://weft/models"
QUICK = RequestLimits(timeout_seconds=10, retry_seconds=0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """A SeaweedFS."""
    with seaweed(tmp_path_factory.mktemp("seaweed") / "store") as running:
        yield running


@pytest.fixture(autouse=True)
def environment(server: Seaweed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment's S3 be the server."""
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)


def use(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Let the environment's S3 be at a port."""
    monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{port}")


def port_of(server: Seaweed) -> int:
    """Return the port of the S3 API."""
    return int(server.endpoint.rpartition(":")[2])


def write(folder: Path, nbytes: int) -> str:
    """Write an adapter's folder with random weights and return its digest."""
    folder.mkdir()
    (folder / CONFIG_NAME).write_text("{}")
    (folder / WEIGHTS_NAME).write_bytes(os.urandom(nbytes))
    (folder / "weft_report.json").write_text("{}")
    return digest_folder(folder)


def test_a_server_keeps_the_contract(tmp_path: Path) -> None:
    """Objects are created once whoever races, listed with sizes and times below a prefix, and
    folders come and go as in the stores of the other tests."""
    objects, digest = Objects(URL), write(tmp_path / "folder", PIECE_BYTES + 1)
    objects.check()
    winners: list[int] = []

    def create(number: int) -> None:
        try:
            objects.create("race", b"%d" % number)
            winners.append(number)
        except AlreadyThere:
            pass

    threads = [threading.Thread(target=create, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [int(objects.get("race"))] == winners
    with pytest.raises(FileNotFoundError):
        objects.get("missing")
    bucket = Bucket(objects, "versions")
    assert {} == bucket.folders()
    assert bucket.put(digest, tmp_path / "folder")
    assert not bucket.put(digest, tmp_path / "folder")
    stored = bucket.folders()[digest]
    assert stored.nbytes > PIECE_BYTES
    assert abs(stored.modified - time.time()) < 60
    bucket.fetch(digest, LocalBlobs(tmp_path / "local"))
    assert not bucket.discard(digest, idle_seconds=3600)
    assert bucket.discard(digest, idle_seconds=-60)
    assert {} == bucket.folders()
    objects.delete("race", "missing")
    assert [] == list(objects.list("versions"))


@pytest.mark.parametrize("status", [429, 503, CUT])
def test_requests_that_fail_are_repeated(
    server: Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """While every third request is refused, or its answer is cut off, all operations succeed."""
    numbers = itertools.count()
    digest = write(tmp_path / "folder", PIECE_BYTES + 1)
    with proxy(port_of(server), lambda *_: None if next(numbers) % 3 else status) as between:
        use(monkeypatch, between.server_port)
        bucket = Bucket(Objects(URL), f"flaky-{status}")
        assert bucket.put(digest, tmp_path / "folder")
        assert bucket.has(digest)
        bucket.fetch(digest, LocalBlobs(tmp_path / "local"))
        assert bucket.discard(digest, idle_seconds=-60)
        assert between.failed >= 5
    use(monkeypatch, port_of(server))
    assert {} == Bucket(Objects(URL), f"flaky-{status}").folders()


def test_a_store_that_stays_away_is_told_in_time(
    server: Seaweed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that refuses everything is told after the time for retries."""
    with proxy(port_of(server), lambda *_: 503) as between:
        use(monkeypatch, between.server_port)
        objects, started = Objects(URL, RequestLimits(5, retry_seconds=1)), time.monotonic()
        with pytest.raises(StoreUnavailable, match="status 503"):
            objects.put("a", b"b")
        assert time.monotonic() - started < 5


def test_a_server_killed_in_the_middle_of_an_upload_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the crash no folder is visible; the upload, repeated, completes it."""
    digest = write(tmp_path / "folder", 4 * PIECE_BYTES)
    with seaweed(tmp_path / "seaweed") as own:
        parts = itertools.count()
        for name, value in own.environ.items():
            monkeypatch.setenv(name, value)

        def fate(method: str, path: str) -> int | None:
            if method == "PUT" and "partNumber" in path and next(parts) == 2:
                own.stop()
            return None

        with proxy(port_of(own), fate) as between:
            use(monkeypatch, between.server_port)
            with pytest.raises(StoreUnavailable):
                Bucket(Objects(URL, QUICK), "versions").put(digest, tmp_path / "folder")
        assert next(parts) > 2
        own.start()
        use(monkeypatch, port_of(own))
        bucket = Bucket(Objects(URL), "versions")
        assert not bucket.has(digest)
        assert {} == bucket.folders()
        assert bucket.put(digest, tmp_path / "folder")
        bucket.fetch(digest, LocalBlobs(tmp_path / "local"))
