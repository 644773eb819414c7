"""Builds as tasks of Ray, without a Ray: what a task does, and what the cluster's actor shares."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from merge.errors import MergeError
from registry.storage.blobs import LocalBlobs
from server.artifacts.worker import BuildCall, Built
from server.artifacts.workers import Workers

pytest.importorskip("ray", reason="the extra `ray` is not installed")

from server.cluster import builds
from server.cluster.builds import RunningBuilds

DIGEST = "a" * 64


class Inline:
    """Workers that make calls in this process."""

    async def run(self, call: BuildCall, _seconds: float) -> Built:
        """Make the call."""
        return call()


class Tasks:
    """Stands in for a task of Ray: each begins a future that the test ends."""

    def __init__(self) -> None:
        self.begun: list[asyncio.Future[str]] = []

    def options(self, **_: object) -> "Tasks":
        """Return the task."""
        return self

    def remote(self, *_: object) -> "asyncio.Future[str]":
        """Begin one."""
        self.begun.append(asyncio.get_running_loop().create_future())
        return self.begun[-1]


def merged(_recipe: str, folders: dict[str, Path], out: Path, **_: object) -> Built:
    """Write the names of the ingredients' files."""
    out.mkdir()
    (out / "adapter_config.json").write_text(str(sorted(folders)))
    return Built(1, 2.0, "{}")


def refused(*_: object, **__: object) -> Built:
    """Refuse the merge."""
    raise MergeError("too few members")


def call(out: Path, *, folders: dict[str, Path], function: Any = merged) -> BuildCall:
    """Return a build of one ingredient."""
    return BuildCall(function, "{}", folders, out, {"threads": 1}, (DIGEST,))


def workers() -> Workers:
    """Return workers that start no process."""
    return cast("Workers", Inline())


def test_a_build_on_the_gateway_s_machine_writes_where_the_gateway_wants(tmp_path: Path) -> None:
    """With the ingredients' folders the files stay in `out`, and none goes through Ray."""
    made = builds._build(call(tmp_path / "out", folders={DIGEST: tmp_path}), 1.0, workers())

    assert {} == made.files
    assert (tmp_path / "out" / "adapter_config.json").exists()


def test_a_build_elsewhere_fetches_and_returns_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without folders the task takes the ingredients from the store of its machine, returns the
    files' bytes and leaves nothing."""
    blobs = LocalBlobs(tmp_path / "blobs")
    (tmp_path / "blobs" / DIGEST).mkdir(parents=True)
    monkeypatch.setattr(builds, "version_store", lambda _: blobs)

    made = builds._build(call(Path("elsewhere"), folders={}), 1.0, workers())

    assert {"adapter_config.json": str([DIGEST]).encode()} == made.files
    assert [] == list((tmp_path / "blobs" / ".workspaces").iterdir())


def test_an_error_of_a_build_comes_back_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a build raises is returned, so that Ray does not wrap it in an error of its own."""
    monkeypatch.setattr(builds, "_workers", lambda _: workers())

    outcome = builds.build_here(
        call(tmp_path / "out", folders={DIGEST: tmp_path}, function=refused), 1.0, 2**20
    )

    assert isinstance(outcome, builds._Raised)
    assert isinstance(outcome.error, MergeError)


async def test_gateways_share_a_build_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two gateways that ask for one recipe get one build, another recipe gets its own, and after
    its end a recipe is built anew."""
    tasks, actor = Tasks(), RunningBuilds()
    monkeypatch.setattr(builds, "_task", lambda: tasks)

    async def ask(key: str) -> Any:
        build = call(Path("out"), folders={})
        return (await actor.build(key, build, 1.0, 2**20, None))[0]

    first, second, other = await ask("one"), await ask("one"), await ask("two")
    assert first is second
    assert other is not first
    tasks.begun[0].set_result("done")
    await asyncio.sleep(0.01)
    assert await ask("one") is not first
    for future in tasks.begun:
        future.cancel()
