"""Concurrent workers and callers: no job runs twice, and no log entry is missed."""

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from registry.jobs.errors import FileInUse, JobFinished, UnknownFile
from registry.jobs.queue import Jobs
from registry.jobs.types import Note
from registry.service import Registry
from registry.storage.database import Database
from tests.registry.jobs.rows import job_id, put_file, queue

THREADS = 8


def at_once(work: Callable[[int], object]) -> list[object]:
    """Run one call per thread and return the results."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, range(THREADS)))


def test_threads_never_get_the_same_job(registry: Registry) -> None:
    """Concurrent claims return each job once, and None when no job is left."""
    for number in range(5):
        queue(registry, number)
    got = at_once(lambda n: registry.jobs.claim(f"w{n}", None))
    ids = [job.id for job in got if job is not None]  # type: ignore[attr-defined]
    assert [job_id(n) for n in range(5)] == sorted(ids)


def _claim_all(url: str, worker: str) -> list[str]:
    database = Database(url)
    jobs, ids = Jobs(database), list[str]()
    while (job := jobs.claim(f"{worker}-{len(ids)}", None)) is not None:
        ids.append(job.id)
    database.close()
    return ids


def test_processes_never_get_the_same_job(registry: Registry, database: Database) -> None:
    """Two gateways on one database never claim the same job."""
    for number in range(20):
        queue(registry, number)
    url = database._engine.url.render_as_string(hide_password=False)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        shares = pool.starmap(_claim_all, [(url, "a"), (url, "b")], chunksize=1)
    assert [job_id(n) for n in range(20)] == sorted([*shares[0], *shares[1]])


def test_a_job_is_cancelled_or_claimed(registry: Registry) -> None:
    """When a cancel races with a claim, the job is never claimed, or its worker learns of the
    cancel.
    """
    for number in range(THREADS):
        queue(registry, number)

    def work(number: int) -> object:
        if number % 2:
            return registry.jobs.claim(f"w{number}", None)
        return registry.jobs.cancel(job_id(number // 2))

    at_once(work)
    for number in range(THREADS // 2):
        job = registry.jobs.get(job_id(number))
        if job.status == "running":
            assert registry.jobs.beat(job.id, str(job.worker)).cancel
        else:
            assert ("cancelled", None) == (job.status, job.worker)


def test_many_who_cancel_ask_once(registry: Registry) -> None:
    """Of several concurrent cancels one ends the job; the others learn that it has ended."""
    queue(registry, 1)

    def work(_: int) -> object:
        try:
            return registry.jobs.cancel(job_id(1)).status
        except JobFinished as error:
            return error

    ended = at_once(work)
    assert ["cancelled"] == [one for one in ended if not isinstance(one, JobFinished)]


def test_a_silent_job_is_put_back_once(registry: Registry) -> None:
    """Gateways that requeue at the same time count one lost worker once."""
    queue(registry, 1)
    registry.jobs.claim("w", None)
    put_back = at_once(lambda _: registry.jobs.requeue(0))
    assert 1 == sum(len(jobs) for jobs in put_back)  # type: ignore[arg-type, misc]
    assert 1 == registry.jobs.get(job_id(1)).attempts


def test_a_file_is_removed_or_used(registry: Registry) -> None:
    """When a file's removal races with a job's creation, the job is refused or keeps the file."""
    files = [put_file(registry, number).id for number in range(THREADS // 2)]

    def work(number: int) -> object:
        file = files[number // 2]
        try:
            if number % 2:
                return queue(registry, number // 2, training_file=file)
            return registry.files.remove(file)
        except (FileInUse, UnknownFile) as error:
            return type(error)

    done = at_once(work)
    for removal, job in zip(done[::2], done[1::2], strict=True):
        assert (removal is FileInUse) != (job is UnknownFile)


def test_a_reader_who_goes_on_after_the_last_entry_misses_none(registry: Registry) -> None:
    """Log entries become visible in the order of their ids under concurrent writes."""
    queue(registry, 1)
    written = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while True:
            last_look = written.is_set()
            after = seen[-1] if seen else None
            page = registry.jobs.events(job_id(1), after=after, limit=7, oldest_first=True)
            seen.extend(event.id for event in page.items)
            if last_look and not page.items:
                return

    def write(number: int) -> None:
        for i in range(5):
            registry.jobs.note(job_id(1), [Note(f"{number}.{i}"), Note("more")])

    reader = threading.Thread(target=read)
    reader.start()
    try:
        at_once(write)
    finally:
        written.set()
        reader.join()
    page = registry.jobs.events(job_id(1), limit=1000, oldest_first=True)
    assert [event.id for event in page.items] == seen
    assert 1 + THREADS * 5 * 2 == len(seen)
