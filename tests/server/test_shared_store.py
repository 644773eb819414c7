"""Gateways that share an object store: what one stores or merges, the others use."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.adapters import Adapters
from registry.storage.bucket import Bucket
from registry.storage.database import Database
from registry.storage.errors import StoreUnavailable
from registry.storage.objects import Objects
from registry.upkeep import garbage
from server import readiness
from server.artifacts.collect import collect, collector_of
from server.artifacts.copies import tend_copies
from server.doctor import services
from server.gateway import Gateway
from server.readiness import Readiness
from tests.server.conftest import BASE, MakeSettings, MakeShared, Weft
from tests.server.jobs.conftest import send_file
from tests.server.test_build import merges
from tests.server.test_provide import provide, target_of

DigestOf = Callable[[str], str]


def gone(*_: object, **__: object) -> None:
    """Stand for a store that does not answer."""
    raise StoreUnavailable("memory://", "no connection")


def lose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no request reach the store."""

    def refuse(self: Objects, *_: object, **__: object) -> None:
        self.failing = True
        raise StoreUnavailable(self.url, "no connection")

    monkeypatch.setattr(Objects, "_ask", refuse)


async def test_a_merge_of_one_gateway_serves_the_other(shared: MakeShared) -> None:
    """The second gateway fetches the artifact that the first one merged, and merges nothing."""
    first, second = shared("first"), shared("second")
    target = target_of(first, "cat(zorp, blim)")
    digest = await provide(first, target)
    assert digest == await provide(second, target_of(second, "cat(zorp, blim)"))
    assert (1.0, 0.0) == (merges(first), merges(second))
    second.artifacts.verify(digest)


async def test_an_adapter_of_one_gateway_serves_the_other(
    shared: MakeShared, demo_adapters: Path
) -> None:
    """An adapter that one gateway registers is staged by the other from the store."""
    first, second = shared("first"), shared("second")
    first.registry.adapters.register(demo_adapters / "zorp", name="again", base=BASE)
    digest = await provide(second, target_of(second, "again"))
    second.artifacts.verify(digest)


async def test_the_first_artifact_of_a_recipe_stays_its_artifact(
    shared: MakeShared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two gateways that merge one recipe at once answer with the digest recorded first."""
    first, second = shared("first"), shared("second")
    digest = await provide(first, target_of(first, "cat(zorp, blim)"))
    recipe = target_of(second, "cat(zorp, blim)").recipe
    assert recipe is not None
    assert digest == await second.builder.build(recipe)


async def test_a_damaged_artifact_in_the_store_is_made_again(
    shared: MakeShared, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A gateway that fetches other bytes merges, and the store has the right bytes then."""
    first, second = shared("first"), shared("second")
    target = target_of(first, "cat(zorp, blim)")
    digest = await provide(first, target)
    Objects(store).put(f"artifacts/{digest}/adapter_model.safetensors", b"other")
    with caplog.at_level(logging.ERROR):
        assert digest == await provide(second, target)
    assert "damaged" in caplog.text
    third = shared("third")
    await provide(third, target_of(third, "cat(zorp, blim)"))
    assert (1.0, 0.0) == (merges(second), merges(third))


async def test_what_is_at_hand_is_served_without_the_store(
    shared: MakeShared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the store is gone, adapters and merges of this machine answer; others are refused,
    and /ready says so from then on until the store is back."""
    monkeypatch.setattr(readiness, "_REMEMBERED_SECONDS", 0)
    gateway = shared()
    ready = Readiness(gateway)
    for model in ("zorp", "cat(zorp, blim)"):
        await provide(gateway, target_of(gateway, model))
    with monkeypatch.context() as patch:
        lose(patch)
        for model in ("zorp", "cat(zorp, blim)"):
            await provide(gateway, target_of(gateway, model))
        assert {} == await ready.problems()
        with pytest.raises(StoreUnavailable):
            await provide(gateway, target_of(gateway, "dwen"))
        assert {"store"} == set(await ready.problems())
    assert {} == await ready.problems()
    await provide(gateway, target_of(gateway, "dwen"))


async def test_garbage_is_collected_in_the_store(
    shared: MakeShared, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders that no row refers to go from the bucket once they are old; copies and what rows
    refer to stay."""
    gateway = shared()
    digest = await provide(gateway, target_of(gateway, "cat(zorp, blim)"))
    bucket = Bucket(Objects(store), "versions")
    orphan = "f" * 64
    Objects(store).put(f"versions/{orphan}/adapter_model.safetensors", b"left by a crash")
    database = Database(gateway.settings.database)
    kept = bucket.folders().keys() - {orphan}
    collector = collector_of(database, gateway.settings, grace_days=0)
    assert () == collector.plan()
    monkeypatch.setattr(garbage, "YOUNG_SECONDS", -1.0)
    planned = collector.plan()
    assert {(g.store, g.digest, g.reason) for g in planned} == {
        ("versions", orphan, "orphan"), ("artifacts", digest, "unused"),
    }  # fmt: skip
    done = await collect(collector, None, planned)
    assert all(item.removed for item in done)
    assert kept == bucket.folders().keys()
    assert {} == Bucket(Objects(store), "artifacts").folders()
    assert gateway.artifacts.has(digest)


def test_a_row_that_appears_during_a_collection_keeps_its_files(
    shared: MakeShared, store: str, demo_adapters: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A version that is registered after the plan, even after its manifest went, has its files."""
    first, second, bucket = shared("first"), shared("second"), Bucket(Objects(store), "versions")
    folder = Path(shutil.copytree(demo_adapters / "zorp", tmp_path / "late"))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 3}))
    known = bucket.folders().keys()
    with monkeypatch.context() as patch:  # a crash between the files and their row
        patch.setattr(Adapters, "_added", gone)
        with pytest.raises(StoreUnavailable):
            first.registry.adapters.register(folder, name="late", base=BASE)
    (digest,) = bucket.folders().keys() - known
    monkeypatch.setattr(garbage, "YOUNG_SECONDS", -1.0)
    collector = collector_of(Database(first.settings.database), first.settings, grace_days=0)
    planned = [item for item in collector.plan() if item.digest == digest]
    delete = Objects.delete

    def late(self: Objects, *keys: str) -> None:
        delete(self, *keys)
        monkeypatch.setattr(Objects, "delete", delete)
        second.registry.adapters.register(folder, name="late", base=BASE)

    monkeypatch.setattr(Objects, "delete", late)
    assert [False] == [item.removed for item in collector.collect(planned)]
    shared("third").versions.verify(digest)


def test_use_is_told_to_the_bucket(shared: MakeShared, monkeypatch: pytest.MonkeyPatch) -> None:
    """An artifact in use is refreshed in the bucket once in six hours."""
    gateway = shared()
    refreshed: list[str] = []
    monkeypatch.setattr(Bucket, "refresh", lambda _, digest: refreshed.append(digest))
    with gateway.artifacts.workspace() as folder:
        (folder / "adapter_config.json").write_text("{}")
        (folder / "adapter_model.safetensors").write_text("")
        digest = gateway.artifacts.adopt(folder)
    for _ in range(2):
        tend_copies(gateway.versions, gateway.artifacts, gateway.registry.jobs, budget_bytes=10**9)
    assert [digest] == refreshed


def test_the_doctor_writes_to_the_store(make_settings: MakeSettings, tmp_path: Path) -> None:
    """`weft doctor` says whether the store can be written, and leaves nothing there."""
    assert "ok" == services.check_store(make_settings()).state
    settings = make_settings(store=f"file://{tmp_path}/bucket")
    assert "ok" == services.check_store(settings).state
    assert [] == list(Objects(str(settings.store)).list("checks"))


def test_the_doctor_names_a_store_that_overwrites(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A store without conditional writes is wrong."""
    monkeypatch.setattr(Objects, "create", Objects.put)
    finding = services.check_store(make_settings(store=f"memory://{tmp_path}"))
    assert "wrong" == finding.state
    assert "If-None-Match" in finding.detail


async def test_a_home_moves_into_a_store(
    gateway: Gateway, weft: Weft, shared: MakeShared, store: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """`weft store upload` sends adapters, merges, uploads and jobs; another machine then needs
    nothing of the home. Without a store it says what to set."""
    assert "WEFT_STORE is not set" in weft("store", "upload").stderr
    made = await provide(gateway, target_of(gateway, "cat(zorp, blim)"))
    file, job = send_file(gateway, "text"), f"ftjob-{'0' * 24}"
    folder = gateway.storage.folder(job)
    folder.mkdir()
    (folder / "outcome.json").write_text("{}")
    new = f"memory://{tmp_path}/moved"
    monkeypatch.setenv("WEFT_STORE", new)
    for _ in range(2):
        assert "are in memory://" in weft("store", "upload").stdout
    elsewhere = shared("elsewhere", store=new)
    assert made == await provide(elsewhere, target_of(elsewhere, "cat(zorp, blim)"))
    assert 0.0 == merges(elsewhere)
    assert "text" == elsewhere.storage.file(file).read_text()
    assert (elsewhere.storage.obtain(job) / "outcome.json").exists()
