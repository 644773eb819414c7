"""Following a job's log."""

import asyncio
from typing import Any

import pytest

from registry.callers import LOCAL, Caller
from registry.jobs.errors import UnknownJob
from registry.jobs.types import Note
from server.gateway import Gateway
from tests.server.jobs.conftest import queue


async def collected(gateway: Gateway, job: str, after: int | None = None) -> list[str]:
    """Return the messages of a job's log, as it was followed to the end."""
    pages = gateway.feed.follow(job, after=after, caller=LOCAL)
    return [event.message async for page in pages for event in page]


async def test_followers_share_one_reader(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """45 followers of a job cost what one costs, but for one look each at the start; all of them
    receive every entry, wherever they begin."""
    jobs = gateway.registry.jobs
    job = queue(gateway)
    jobs.note(job.id, [Note(f"line {n}") for n in range(450)])
    calls = 0
    events = jobs.events

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return events(*arguments, **options)

    monkeypatch.setattr(jobs, "events", counted)
    following = [asyncio.create_task(collected(gateway, job.id)) for _ in range(45)]
    await asyncio.sleep(1.5)
    looks = calls
    jobs.cancel(job.id)
    messages, *others = await asyncio.gather(*following)
    assert [f"line {n}" for n in range(450)] == messages[-451:-1]
    assert "cancel" in messages[-1].lower()
    assert [messages] * 44 == others
    assert looks < 20


async def test_a_client_goes_on_after_the_last_entry_it_has_seen(gateway: Gateway) -> None:
    """Entries up to `after` are left out, and a number beyond the log's end finds nothing."""
    jobs = gateway.registry.jobs
    job = queue(gateway)
    jobs.note(job.id, [Note("first"), Note("second")])
    jobs.cancel(job.id)
    entries = jobs.events(job.id, limit=100, oldest_first=True).items
    second = next(entry.id for entry in entries if entry.message == "second")
    assert [entry.message for entry in entries if entry.id > second] == await collected(
        gateway, job.id, second
    )
    assert [] == await collected(gateway, job.id, 2**62)


async def test_nobody_follows_a_job_of_others(gateway: Gateway) -> None:
    """A job that the caller cannot see is unknown, also while others follow it."""
    job = queue(gateway, Caller("ada", "publish", "acme"))
    with pytest.raises(UnknownJob):
        async for _ in gateway.feed.follow(job.id, caller=Caller("eve", "admin", "other")):
            pass
