"""Learning in a task of Ray, without a Ray: what the task yields, and whose folders it uses."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from merge.adaptive.pool import PoolMember
from registry.jobs.types import Note
from server.jobs.failures import Failure
from server.jobs.storage import JobStorage, new_id
from server.jobs.worker import Entry, WorkerSpec
from server.stores import job_storage
from tests.server.conftest import MakeSettings, demo_settings
from tests.server.jobs import children

pytest.importorskip("ray", reason="the extra `ray` is not installed")

from server.cluster import learning

OUTCOME = {"candidates": ["one"]}


def spec_in(folder: Path, job: str, training: str, *members: PoolMember) -> WorkerSpec:
    """Return a spec with a gateway's paths."""
    return WorkerSpec(
        {}, members, folder / "files" / training, None, folder / job, folder / "scores", "", "",
        "cpu", "float32", 64, 1.0, None,
    )  # fmt: skip


def test_a_job_elsewhere_leaves_its_folder_in_the_store(
    store: str,
    tmp_path: Path,
    digest_of: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A task on another machine learns in a folder of its own, from the store's copies; then the
    gateway claims what it wrote."""
    shared = partial(demo_settings, store=store, store_retry_seconds=0)
    gateway = job_storage(shared(tmp_path / "gateway"))
    job, training = new_id("ftjob"), new_id("file")
    incoming = gateway.incoming()
    incoming.write(b"examples")
    gateway.keep(incoming, training, incoming.close())
    gateway.claim(job)
    digest = digest_of("zorp")
    spec = spec_in(tmp_path / "nowhere", job, training, PoolMember("zorp@1", digest, Path("gone")))
    monkeypatch.setattr(learning, "Settings", lambda: shared(tmp_path / "task"))

    notes = list(learning.learn_anywhere(partial(children.learn, OUTCOME, {}), spec, ()))

    assert all(isinstance(note, Note) for note in notes), notes
    assert not (tmp_path / "nowhere").exists()
    assert gateway.outcome(job) is None
    gateway.claim(job)
    assert OUTCOME == gateway.outcome(job)
    assert (tmp_path / "task" / "jobs" / "files" / training).read_bytes() == b"examples"
    assert (tmp_path / "task" / "blobs" / digest).is_dir()


@pytest.mark.parametrize(("entry", "last"), [(children.diverge, Failure), (children.die, object)])
def test_how_a_child_ended_is_its_last_message(
    tmp_path: Path, entry: Entry, last: type[object]
) -> None:
    """What a child raised, and that it was killed, are told as values: Ray would wrap errors."""
    spec = spec_in(tmp_path, new_id("ftjob"), new_id("file"))

    *_, message = learning.learn_here(entry, spec, ())

    assert isinstance(message, last)
    assert not isinstance(message, Note)


def test_a_store_that_is_gone_fails_the_job(
    tmp_path: Path, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that cannot reach the store says so as the job's failure."""

    class Gone(JobStorage):
        """The files of jobs on a disk that is gone."""

        def claim(self, job: str) -> None:
            """Fail."""
            raise OSError(f"the disk of {job} is gone")

    monkeypatch.setattr(learning, "Settings", make_settings)
    monkeypatch.setattr(learning, "job_storage", lambda _: Gone(tmp_path))
    spec = spec_in(tmp_path, new_id("ftjob"), new_id("file"))

    (message,) = learning.learn_anywhere(children.diverge, spec, ())

    assert isinstance(message, Failure)
