"""Faults that must not kill the engine, and a gateway that is killed."""

import asyncio
import resource
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.engine.gateway import (
    ADAPTERS,
    BASE,
    Weft,
    alive,
    descendants,
    running,
    serve_settings,
)  # fmt: skip
from tests.reading import read_adapter


async def churn(weft: Weft) -> None:
    """Use more adapters than the engine keeps in memory, so that it drops the older ones."""
    for name in ADAPTERS:
        await weft.tokens(name, [f"{name}: abc"])


async def test_deleting_artifacts_by_hand(weft: Weft) -> None:
    """If the files of a loaded artifact are deleted by hand, the engine stays alive, its answers do
    not change, and the next request builds the artifact again."""
    expression = "cat(zorp, frob)"
    engine = weft.engine_pid()
    async with weft.http() as http:
        before = await weft.complete(http, expression, "zorp: abc")
        shutil.rmtree(weft.settings.artifacts / before["model"])
        await churn(weft)
        after = await weft.complete(http, expression, "zorp: abc")

    assert before["model"] == after["model"]
    assert before["choices"] == after["choices"]
    assert engine == weft.engine_pid()


async def test_deleting_every_artifact_under_traffic(weft: Weft) -> None:
    """The engine stays alive when all files of the store are deleted while requests run."""
    engine = weft.engine_pid()

    async def delete() -> None:
        for _ in range(5):
            for folder in weft.settings.artifacts.iterdir():
                if not folder.name.startswith("."):
                    shutil.rmtree(folder, ignore_errors=True)
            await asyncio.sleep(0.3)

    async def ask(name: str) -> None:
        async with weft.http() as http:
            for _ in range(5):
                body = {"model": name, "prompt": "x", "max_tokens": 4}
                response = await http.post("/v1/completions", json=body)
                # The deletion can interrupt a build or a load, which is answered 410 or 503.
                assert response.status_code in (200, 410, 503), response.text

    await asyncio.gather(delete(), *(ask(name) for name in ADAPTERS))

    assert engine == weft.engine_pid()
    async with weft.http() as http:
        answer = await weft.complete(http, "zorp", "zorp: abc")
    assert answer["choices"][0]["message"]["content"] == "CBA"


async def test_retired_version(weft: Weft) -> None:
    """A request for a retired version is answered 410; other versions are served."""
    registry = weft.registry
    zorp = read_adapter(registry, "zorp").versions[0]
    registry.adapters.register(weft.settings.blobs / zorp.digest, name="leaving")
    from registry.references import parse_reference

    async with weft.http() as http:
        await weft.complete(http, "leaving@1", "zorp: abc")
        registry.versions.retire(parse_reference("leaving@1"), "test")
        body = {"model": "leaving@1", "prompt": "x"}
        response = await http.post("/v1/completions", json=body)
        await weft.complete(http, "zorp", "zorp: abc")

    assert (410, "version_retired") == (response.status_code, response.json()["error"]["code"])


@pytest.mark.parametrize(
    ("model", "status", "code", "says"),
    [
        ("lego(zorp, blim; rank=", 400, "invalid_expression", "^"),
        ("lego(zorp; colour=red)", 400, "invalid_recipe", "colour"),
        ("lego(zorp, blim; rank=9999)", 400, "invalid_recipe", "64"),
        ("nosuch(zorp)", 400, "invalid_recipe", "lego"),
        ("zorpp", 404, "model_not_found", "zorp"),
        ("zorp@2", 404, "model_not_found", "zorp"),
        ("0" * 64, 404, "model_not_found", "0000"),
        ("cat(1e4*zorp)", 422, "unsafe_result", "norm"),
        ("1e30*zorp + blim", 422, "merge_too_large", "weight"),
        ("linear(zorp, blim; scale=1e38)", 422, "merge_too_large", "scale"),
        ("cat(1e999*zorp)", 400, "invalid_expression", "finite"),
    ],
)
async def test_refusals(weft: Weft, model: str, status: int, code: str, says: str) -> None:
    """A model that cannot be served is refused with an error in OpenAI's format that names the
    cause, and the engine keeps answering."""
    async with weft.http() as http:
        body = {"model": model, "messages": [{"role": "user", "content": "x"}]}
        response = await http.post("/v1/chat/completions", json=body)
        alive = await weft.complete(http, BASE, "reverse: abc")

    error = response.json()["error"]
    assert (status, code) == (response.status_code, error["code"])
    assert says in error["message"]
    assert {"message", "type", "param", "code"} == set(error)
    assert alive["choices"][0]["message"]["content"] == "cba"


async def test_engine_routes_are_closed(weft: Weft) -> None:
    """The engine's own routes require its key: no process on the machine can bypass the gateway."""
    url = weft.engine_endpoint().url
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        load = {"lora_name": "x", "lora_path": "/etc"}
        answers = [
            await http.post("/v1/load_lora_adapter", json=load),
            await http.post("/adapters", json={"name": "x", "src": "/etc"}),
            await http.get("/weft/adapters"),
            await http.post("/v1/completions", json={"model": BASE, "prompt": "x"}),
        ]

    assert [401, 401, 401, 401] == [answer.status_code for answer in answers]


async def test_full_disk(weft: Weft, tmp_path: Path) -> None:
    """A merge on a full disk is answered 507 and leaves no files; other requests are answered."""
    engine = weft.engine_endpoint()
    # A second gateway on the same engine; its processes may write files of at most 1 MB.
    settings = serve_settings(
        tmp_path / "home",
        artifacts_dir=weft.settings.artifacts,
        database_url=weft.settings.database,
        store=weft.settings.store,
        engine_url=(engine.url,),
        engine_key=engine.key,
        self_test=False,
    )
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "blobs").symlink_to(weft.settings.blobs)

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))

    if weft.settings.database_url is None:
        with closing(sqlite3.connect(weft.settings.home / "weft.db")) as database:
            # The log of what earlier tests wrote can be longer than that.
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = set(weft.settings.artifacts.iterdir())
    with running(settings, preexec_fn=small_files) as limited:
        async with limited.http() as http:
            body = {"model": f"cat({', '.join(ADAPTERS[:6])})", "prompt": "x", "max_tokens": 1}
            refused = await http.post("/v1/completions", json=body)
            answer = await limited.complete(http, "zorp", "zorp: abc")

    assert (507, "storage_full") == (refused.status_code, refused.json()["error"]["code"])
    assert answer["choices"][0]["message"]["content"] == "CBA"
    left = {path for path in set(weft.settings.artifacts.iterdir()) - before if path.is_dir()}
    assert {path.name for path in left} <= {answer["model"]}
    assert [] == list((weft.settings.artifacts / ".workspaces").iterdir())


@pytest.mark.slow
@pytest.mark.faults
def test_nothing_outlives_a_killed_gateway(tmp_path: Path) -> None:
    """The engine and the workers end by themselves when their gateway is killed with -9."""
    with running(serve_settings(tmp_path / "home", self_test=False)) as weft:
        family = descendants(weft.process.pid)
        weft.process.kill()
        weft.process.wait()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and any(map(alive, family)):
            time.sleep(0.2)

    assert len(family) >= 3
    assert [] == [pid for pid in family if alive(pid)]
