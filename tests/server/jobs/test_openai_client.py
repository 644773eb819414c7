"""The real `openai` client: files, jobs, events and the resulting model."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from registry.callers import Role
from registry.service import Registry
from server.app import create_app
from server.gateway import Gateway
from server.jobs import worker
from tests.server.conftest import BASE, MakeGateway
from tests.server.jobs import children
from tests.server.jobs.conftest import MakeOutcome, ended, examples, learns, running, told

METHOD: Any = {
    "type": "adaptive_merge",
    "adaptive_merge": {"hyperparameters": {"pool": ["zorp", "blim"], "k": 2, "steps": 5}},
}


def client_of(gateway: Gateway, key: str = "none") -> AsyncOpenAI:
    """Return a client of the gateway without retries."""
    http = DefaultAsyncHttpxClient(transport=httpx2.ASGITransport(create_app(gateway)))
    return AsyncOpenAI(base_url="http://localhost/v1", api_key=key, http_client=http, max_retries=0)


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    """A client of a gateway without keys."""
    async with client_of(gateway) as made:
        yield made


async def upload(client: AsyncOpenAI, text: str | None = None) -> str:
    """Upload examples and return the file's id."""
    content = (examples() if text is None else text).encode()
    return (await client.files.create(file=("x.jsonl", content), purpose="fine-tune")).id


async def test_from_a_file_to_an_answer(
    client: AsyncOpenAI, gateway: Gateway, make_outcome: MakeOutcome, fresh: Path
) -> None:
    """A file, a job, its events and checkpoints lead to a chat with the result."""
    file = await client.files.create(file=("x.jsonl", examples().encode()), purpose="fine-tune")
    assert ("file", "x.jsonl", "fine-tune", len(examples())) == (
        file.object, file.filename, file.purpose, file.bytes,
    )  # fmt: skip
    async with running(gateway, learns(make_outcome(), fresh)):
        job = await client.fine_tuning.jobs.create(
            model=BASE, training_file=file.id, method=METHOD, seed=7, suffix="bot",
            metadata={"ticket": "L-17"},
        )  # fmt: skip
        assert ("queued", None, 7, file.id) == (
            job.status, job.fine_tuned_model, job.seed, job.training_file,
        )  # fmt: skip
        await ended(gateway, gateway.registry.jobs.get(job.id))
        done = await client.fine_tuning.jobs.retrieve(job.id)
        assert "succeeded" == done.status
        assert done.fine_tuned_model is not None
        answer = await client.chat.completions.create(
            model=done.fine_tuned_model, messages=[{"role": "user", "content": "hello"}]
        )
    assert answer.choices[0].message.content == f"answered by {answer.model}"
    assert 77 == done.trained_tokens
    assert done.finished_at is not None
    assert {"ticket": "L-17"} == done.metadata
    assert "adaptive_merge" == done.to_dict()["method"]["type"]  # type: ignore[index]
    events = [event async for event in client.fine_tuning.jobs.list_events(job.id, limit=3)]
    assert ["The job succeeded.", "The job was queued."] == [
        events[0].message, events[-1].message,
    ]  # fmt: skip
    assert children.STEPS == sum(event.type == "metrics" for event in events)
    assert len(events) == len({event.id for event in events})
    (checkpoint,) = [c async for c in client.fine_tuning.jobs.checkpoints.list(job.id)]
    assert (done.fine_tuned_model, 2, 1.8) == (
        checkpoint.fine_tuned_model_checkpoint, checkpoint.step_number,
        checkpoint.metrics.valid_loss,
    )  # fmt: skip


async def test_files_are_kept_listed_and_removed(client: AsyncOpenAI, gateway: Gateway) -> None:
    """Files are listed by pages, newest first, and their bytes come back unchanged."""
    ids = [await upload(client, f"{n}\n") for n in range(5)]
    assert ids[::-1] == [file.id async for file in client.files.list(limit=2)]
    assert ids[2] == (await client.files.retrieve(ids[2])).id
    assert b"2\n" == (await client.files.content(ids[2])).content
    assert (await client.files.delete(ids[2])).deleted
    assert not gateway.storage.file(ids[2]).exists()
    with pytest.raises(openai.NotFoundError, match="No file"):
        await client.files.content(ids[2])
    assert ids[1::-1] == [file.id async for file in client.files.list(after=ids[2])][-2:]


async def test_a_file_without_its_bytes_is_not_found(client: AsyncOpenAI, gateway: Gateway) -> None:
    """A file whose bytes are missing, as after a restore of the database alone, is not found."""
    file = await upload(client)
    gateway.storage.remove_file(file)
    with pytest.raises(openai.NotFoundError):
        await client.files.content(file)


async def test_a_large_file_is_streamed_to_disk(client: AsyncOpenAI, gateway: Gateway) -> None:
    """A large file is stored byte for byte, whatever its content."""
    content = bytes(range(256)) * 20_000 + b"\r\n--boundary\r\n"
    file = await client.files.create(file=("x.jsonl", content), purpose="fine-tune")
    assert content == gateway.storage.file(file.id).read_bytes()


async def test_jobs_are_listed_and_cancelled(client: AsyncOpenAI, gateway: Gateway) -> None:
    """A queued job is cancelled at once, a running one once its process has ended."""
    file = await upload(client)
    made = [
        await client.fine_tuning.jobs.create(model=BASE, training_file=file, method=METHOD)
        for _ in range(3)
    ]
    listed = [job.id async for job in client.fine_tuning.jobs.list(limit=2)]
    assert [job.id for job in reversed(made)] == listed
    assert "cancelled" == (await client.fine_tuning.jobs.cancel(made[2].id)).status
    async with running(gateway, children.hang):
        await told(gateway, gateway.registry.jobs.get(made[0].id), "waiting")
        await client.fine_tuning.jobs.cancel(made[0].id)
        done = await ended(gateway, gateway.registry.jobs.get(made[0].id))
    assert "cancelled" == done.status
    with pytest.raises(openai.ConflictError, match=r"has ended \(cancelled\)"):
        await client.fine_tuning.jobs.cancel(made[0].id)


async def test_a_failed_job_says_why(client: AsyncOpenAI, gateway: Gateway) -> None:
    """A failed job has its reason in the error field of the client."""
    file = await upload(client, "no\n" * 20)
    job = await client.fine_tuning.jobs.create(model=BASE, training_file=file, method=METHOD)
    async with running(gateway, worker.learn):
        await ended(gateway, gateway.registry.jobs.get(job.id))
    error = (await client.fine_tuning.jobs.retrieve(job.id)).error
    assert error is not None
    assert ("invalid_training_file", "training_file") == (error.code, error.param)
    assert "line 1: not JSON" in error.message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "gpt-4o-mini"}, "must be the base"),
        ({"training_file": "file-" + "0" * 24}, "No file"),
        ({"method": {"type": "supervised"}}, "must be 'adaptive_merge'"),
        ({"hyperparameters": {"n_epochs": 3}}, "'hyperparameters' is not supported"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, "not supported"),
        ({"suffix": "x" * 65}, "suffix"),
    ],
)
async def test_what_is_not_supported_is_refused(
    client: AsyncOpenAI, changes: dict[str, Any], says: str
) -> None:
    """Unsupported options are refused at once, in OpenAI's shape."""
    asked = {"model": BASE, "training_file": await upload(client), "method": METHOD} | changes
    with pytest.raises((openai.BadRequestError, openai.NotFoundError), match=says):
        await client.fine_tuning.jobs.create(**asked)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"stepz": 3}, "did you mean steps"),
        ({"pool": 3}, "must be a filter or a list of references"),
        ({"serve": 3}, "serve takes"),
        ({"pool": "tag=nothing"}, "no adapter"),
    ],
)
async def test_a_bad_hyperparameter_is_refused(
    client: AsyncOpenAI, options: dict[str, Any], says: str
) -> None:
    """The error names the invalid hyperparameter."""
    method: Any = {"type": "adaptive_merge", "adaptive_merge": {"hyperparameters": options}}
    with pytest.raises((openai.BadRequestError, openai.NotFoundError), match=says):
        await client.fine_tuning.jobs.create(
            model=BASE, training_file=await upload(client), method=method
        )


async def key_of(registry: Registry, role: Role, namespace: str | None = None) -> str:
    """Return a new key with this role."""
    return registry.access.keys.create(
        f"{namespace or 'all'}-{role}",
        role=role,
        namespace=namespace,
        all_namespaces=namespace is None,
    )[1]


async def test_namespaces_see_their_own(gateway: Gateway, registry: Registry) -> None:
    """Files and jobs of another namespace are neither found nor listed."""
    ours = client_of(gateway, await key_of(registry, "publish", "team"))
    theirs = client_of(gateway, await key_of(registry, "publish", "other"))
    async with ours, theirs:
        file = await upload(ours)
        job = await ours.fine_tuning.jobs.create(model=BASE, training_file=file, method=METHOD)
        assert [] == [each.id async for each in theirs.files.list()]
        assert [] == [each.id async for each in theirs.fine_tuning.jobs.list()]
        jobs = theirs.fine_tuning.jobs
        for asked in (
            theirs.files.retrieve(file), theirs.files.content(file), theirs.files.delete(file),
            jobs.retrieve(job.id), jobs.cancel(job.id), jobs.list_events(job.id),
            jobs.checkpoints.list(job.id),
            jobs.create(model=BASE, training_file=file, method=METHOD),
        ):  # fmt: skip
            with pytest.raises(openai.NotFoundError):
                await asked
        assert registry.jobs.get(job.id).name.startswith("team/ft-")


async def test_readers_read(gateway: Gateway, registry: Registry) -> None:
    """Every route that creates or changes something requires the role publish."""
    async with client_of(gateway, await key_of(registry, "publish")) as publisher:
        file = await upload(publisher)
        job = await publisher.fine_tuning.jobs.create(model=BASE, training_file=file, method=METHOD)
    async with client_of(gateway, await key_of(registry, "chat")) as reader:
        assert file == (await reader.files.retrieve(file)).id
        assert job.id == (await reader.fine_tuning.jobs.retrieve(job.id)).id
        for asked in (
            upload(reader), reader.files.delete(file), reader.fine_tuning.jobs.cancel(job.id),
            reader.fine_tuning.jobs.create(model=BASE, training_file=file, method=METHOD),
        ):  # fmt: skip
            with pytest.raises(openai.PermissionDeniedError, match="needs the role publish"):
                await asked


async def test_a_file_in_use_stays(client: AsyncOpenAI) -> None:
    """A file cannot be removed before its job has ended."""
    file = await upload(client)
    job = await client.fine_tuning.jobs.create(model=BASE, training_file=file, method=METHOD)
    with pytest.raises(openai.ConflictError, match=job.id):
        await client.files.delete(file)
    await client.fine_tuning.jobs.cancel(job.id)
    assert (await client.files.delete(file)).deleted


async def test_a_file_that_is_too_large_is_refused(make_gateway: MakeGateway) -> None:
    """A file over the limit is refused while it arrives, and no part of it is kept."""
    gateway = make_gateway(file_max_bytes=1000)
    async with client_of(gateway) as client:
        with pytest.raises(openai.APIStatusError, match="1000 bytes") as caught:
            await upload(client, "x" * 5000)
        assert 413 == caught.value.status_code
        await upload(client, "x" * 1000)
    assert [] == list((gateway.settings.jobs / "incoming").iterdir())
    assert 1 == len(list((gateway.settings.jobs / "files").iterdir()))
