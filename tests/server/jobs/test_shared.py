"""Jobs and uploads in an object store: any gateway goes on where another one stopped."""

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest

from registry.storage.database import Database
from registry.storage.objects import Objects
from server.artifacts.store import StoreBroken
from server.jobs.retention import remove_job_folders
from server.jobs.runner import Intervals
from server.jobs.shared import SharedFiles
from tests.server.conftest import BASE, MakeClient, MakeShared
from tests.server.jobs import children
from tests.server.jobs.conftest import (
    FRESH,
    MakeOutcome,
    ended,
    queue,
    running,
    send_file,
    told,
)
from tests.server.jobs.engine import ScoringEngine

JOB = "ftjob-" + "0" * 24


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    """An empty store."""
    return Objects(f"memory://{tmp_path}")


@pytest.fixture
def first(objects: Objects) -> SharedFiles:
    """The store as one gateway sees it."""
    return SharedFiles(objects)


@pytest.fixture
def second(objects: Objects) -> SharedFiles:
    """The store as another gateway sees it."""
    return SharedFiles(objects)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The job's folder on the first machine."""
    return tmp_path / "here" / JOB


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The job's folder on the second machine."""
    return tmp_path / "there" / JOB


def write(folder: Path, **files: str) -> None:
    """Write files into a folder as a job does: each replaced at once."""
    for name, text in files.items():
        partial = folder / f".{name}.partial"
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_text(text)
        partial.replace(folder / name)


def content(folder: Path) -> dict[str, str]:
    """Return the files of a folder, without hidden ones."""
    return {
        file.relative_to(folder).as_posix(): file.read_text()
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith(".")
    }


def test_a_folder_is_restored_as_it_was_saved(
    first: SharedFiles, second: SharedFiles, here: Path, there: Path
) -> None:
    """Another gateway gets the files of the last save, and none that was unfinished."""
    first.claim(JOB, here)
    write(here, a="1", b="2")
    write(here / "checkpoints", c="3")
    (here / ".d.partial").write_text("unfinished")
    assert first.save(JOB, here)
    write(here, a="not saved")
    second.claim(JOB, there)
    assert {"a": "1", "b": "2", "checkpoints/c": "3"} == content(there)


def test_only_changes_are_uploaded(
    first: SharedFiles, objects: Objects, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save uploads what is new, and removes what is gone from the store."""
    first.claim(JOB, here)
    write(here, a="1", b="2")
    first.save(JOB, here)
    uploads, upload = list[str](), Objects.upload

    def noted(self: Objects, file: Path, key: str) -> None:
        uploads.append(file.name)
        upload(self, file, key)

    monkeypatch.setattr(Objects, "upload", noted)
    write(here, b="3")
    first.save(JOB, here)
    first.save(JOB, here)
    assert ["b"] == uploads
    assert 3 == len(list(objects.list("jobs")))


def test_a_folder_that_changes_is_not_saved_in_between(
    first: SharedFiles, second: SharedFiles, here: Path, there: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A file that is replaced during a save makes the save begin again; what is restored was the
    folder at one moment."""
    first.claim(JOB, here)
    write(here, a="1", b="1")
    upload = Objects.upload

    def late(self: Objects, file: Path, key: str) -> None:
        upload(self, file, key)
        monkeypatch.setattr(Objects, "upload", upload)
        write(here, a="2", b="2")

    monkeypatch.setattr(Objects, "upload", late)
    assert first.save(JOB, here)
    second.claim(JOB, there)
    assert {"a": "2", "b": "2"} == content(there)


def test_a_worker_that_lost_its_job_changes_nothing(
    first: SharedFiles, second: SharedFiles, here: Path, there: Path
) -> None:
    """Saves of an earlier claim are not restored any more, however late they come."""
    first.claim(JOB, here)
    write(here, a="1")
    first.save(JOB, here)
    second.claim(JOB, there)
    write(there, a="2")
    second.save(JOB, there)
    write(here, a="late")
    first.save(JOB, here)
    third = there.with_name("third")
    second.claim(JOB, third)
    assert {"a": "2"} == content(third)
    first.claim(JOB, here)
    assert {"a": "2"} == content(here)


def test_a_folder_that_is_ahead_stays(first: SharedFiles, here: Path) -> None:
    """The machine that saved last keeps what it has written since."""
    first.claim(JOB, here)
    write(here, a="1")
    first.save(JOB, here)
    write(here, a="2")
    first.claim(JOB, here)
    assert {"a": "2"} == content(here)


@pytest.mark.parametrize("name", ["../a", "/a"])
def test_a_manifest_cannot_name_a_file_elsewhere(
    first: SharedFiles, second: SharedFiles, objects: Objects, here: Path, there: Path, name: str
) -> None:
    """A manifest that names a path outside of the job's folder is refused."""
    first.claim(JOB, here)
    write(here, a="1")
    first.save(JOB, here)
    (key,) = (item.key for item in objects.list("jobs") if item.key.endswith(".json"))
    objects.put(key, json.dumps({name: [1, "0" * 64]}).encode())
    with pytest.raises(StoreBroken):
        second.claim(JOB, there)
    assert {} == content(there)


def test_nothing_of_a_removed_job_remains(first: SharedFiles, objects: Objects, here: Path) -> None:
    """`remove_job` removes every object, and a later save writes none."""
    first.claim(JOB, here)
    write(here, a="1")
    first.save(JOB, here)
    assert {JOB} == first.jobs()
    first.remove_job(JOB)
    assert not first.save(JOB, here)
    assert [] == list(objects.list("jobs"))


def test_scores_are_known_everywhere(
    first: SharedFiles, second: SharedFiles, tmp_path: Path
) -> None:
    """After an exchange both folders have each line once, and a second one changes nothing."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    write(ours, **{"t.jsonl": "\n1\n\n2\n"})
    write(theirs, **{"t.jsonl": "\n2\n\n3\n", "u.jsonl": "4\n"})
    first.exchange_scores(ours)
    second.exchange_scores(theirs)
    first.exchange_scores(ours)
    for folder in (ours, theirs):
        lines = {name: sorted(text.split()) for name, text in content(folder).items()}
        assert {"t.jsonl": ["1", "2", "3"], "u.jsonl": ["4"]} == lines


def test_an_upload_with_other_bytes_is_refused(
    first: SharedFiles, objects: Objects, tmp_path: Path
) -> None:
    """A file whose object was changed is not written."""
    objects.put(f"files/file-1/{'0' * 64}", b"other")
    with pytest.raises(StoreBroken):
        first.fetch_file("file-1", tmp_path / "file")
    assert not (tmp_path / "file").exists()


async def test_an_upload_is_read_and_removed_by_another_gateway(
    shared: MakeShared, make_client: MakeClient
) -> None:
    """`/v1/files` of one gateway returns what another one received, until it is deleted; then the
    bytes are gone from both and from the store."""
    first, second = shared("first"), shared("second")
    file = send_file(first, "text")
    async with make_client(second) as client:
        assert "text" == (await client.get(f"/v1/files/{file}/content")).text
        assert 200 == (await client.delete(f"/v1/files/{file}")).status_code
    assert [] == list(Objects(str(first.settings.store)).list("files"))
    kept = send_file(first, "other")
    first.storage.drop_removed_copies(first.registry.files)
    for gateway, files in ((first, [kept]), (second, [])):
        assert files == [path.name for path in (gateway.settings.jobs / "files").iterdir()]


async def test_another_gateway_goes_on_with_a_job(
    shared: MakeShared, make_outcome: MakeOutcome, fresh: Path
) -> None:
    """A job that one gateway began is finished by another from its last checkpoint, and a third
    one publishes another candidate of it."""
    first, second = (shared(name, ScoringEngine(BASE)) for name in ("first", "second"))
    entry = partial(children.resume, make_outcome(), {FRESH: fresh})
    intervals = Intervals(look=0.02, beat=0.02, note=0.02, retry=0.02, retries=3, save=0.05)
    job = queue(first)
    async with running(first, entry, intervals):
        await told(first, job, "waiting")
        objects = Objects(str(first.settings.store))
        async with asyncio.timeout(20):
            # Without its manifest a save is not there, and the next gateway begins anew.
            while not any(i.key.endswith("manifest.json") for i in objects.list(f"jobs/{job.id}")):
                await asyncio.sleep(0.02)
    async with running(second, entry, intervals):
        assert "succeeded" == (await ended(second, job)).status
    third = shared("third")
    report = third.registry.jobs.report(job.id)
    assert report is not None
    (candidate,) = (item for item in report["candidates"] if item["name"] == "fresh_lora")
    done = third.registry.jobs.get(job.id)
    assert "lora@1" == third.publisher.publish(done, candidate, "lora").model
    assert not (third.storage.folder(job.id) / "checkpoints").exists()


async def test_a_failed_job_leaves_nothing_in_the_store(shared: MakeShared) -> None:
    """The folder of a job that failed is removed from the store."""
    gateway = shared()
    job = queue(gateway)
    async with running(gateway, children.diverge):
        assert "failed" == (await ended(gateway, job)).status
    assert [] == list(Objects(str(gateway.settings.store)).list("jobs"))


def test_a_removed_upload_goes_wherever_it_is(shared: MakeShared) -> None:
    """`weft gc` removes bytes that stayed when their file was removed: in the store, which was
    gone then, and on other machines. Other uploads stay."""
    first, second = shared("first"), shared("second")
    file, kept = send_file(first, "text"), send_file(first, "more")
    for name in (file, kept):
        second.storage.file(name)
    first.registry.files.remove(file)
    database = Database(first.settings.database)
    for gateway in (first, second):
        remove_job_folders(database, gateway.settings)
        assert frozenset({kept}) == gateway.storage.files()
    database.close()
