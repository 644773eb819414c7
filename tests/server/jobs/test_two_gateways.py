"""Two gateways on one database: what one changes the other sees, and none fails for the other."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.storage.blobs import LocalBlobs
from registry.types import Base
from server.engine.fake import FakeEngine
from server.gateway import Gateway
from server.home import open_registry
from tests.server.conftest import BASE, MakeClient, MakeSettings
from tests.server.jobs.conftest import MakeOutcome, ended, learns, queue, running
from tests.server.test_api import ask, told
from tests.serving import serving

MakeSecond = Callable[..., Gateway]


@pytest.fixture
def second(make_settings: MakeSettings, base: Base) -> MakeSecond:
    """Makes another gateway on the same database, with an engine and a registry of its own."""

    def make(versions: LocalBlobs | None = None, **changes: object) -> Gateway:
        registry, own = open_registry(make_settings())
        settings = make_settings(**changes)
        return Gateway(
            settings, registry=registry, versions=versions or own,
            bases=serving(settings, FakeEngine(BASE)),
        )  # fmt: skip

    return make


async def test_a_gateway_without_the_files_of_an_adapter_says_so(
    second: MakeSecond, make_client: MakeClient, tmp_path: Path
) -> None:
    """B, which has no files of A's adapters, answers 503 with Retry-After and a sentence."""
    bare = second(LocalBlobs(tmp_path / "elsewhere"), artifacts_dir=tmp_path / "artifacts")
    async with make_client(bare) as client:
        for model in ("zorp", "cat(zorp, blim)"):
            answer = await ask(client, model)
            assert (503, "files_missing") == (answer.status_code, told(answer)["code"]), model
            assert "Share" in told(answer)["message"]
            assert "retry-after" in answer.headers
        assert 200 == (await ask(client, BASE)).status_code


async def test_a_job_waits_for_a_gateway_with_its_files(
    gateway: Gateway, second: MakeSecond, make_outcome: MakeOutcome, fresh: Path, tmp_path: Path
) -> None:
    """A gateway without the training file, or without a member of the pool, leaves a job queued;
    a gateway that has them runs it at once."""
    job = queue(gateway)
    no_file = second()
    no_file.storage._root = tmp_path / "no-jobs"
    no_member = second(LocalBlobs(tmp_path / "no-versions"))
    entry = learns(make_outcome(), fresh)
    async with running(no_file, entry), running(no_member, entry):
        await asyncio.sleep(0.5)
        assert ("queued", 0) == (
            gateway.registry.jobs.get(job.id).status, gateway.registry.jobs.get(job.id).attempts,
        )  # fmt: skip
        async with running(gateway, entry):
            assert "succeeded" == (await ended(gateway, job)).status


async def test_two_gateways_run_each_job_once(
    gateway: Gateway, second: MakeSecond, make_outcome: MakeOutcome, fresh: Path
) -> None:
    """Of several queued jobs, each is started once, by one of the gateways."""
    jobs = [queue(gateway, name=f"team/bot-{n}") for n in range(4)]
    entry = learns(make_outcome(), fresh)
    async with running(gateway, entry), running(second(), entry):
        done = [await ended(gateway, job) for job in jobs]
    assert {("succeeded", 1)} == {(job.status, job.attempts) for job in done}
