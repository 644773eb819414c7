"""What weft talks to: its port, its database, its store, the model's files, the engine."""

import asyncio
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import httpx

from registry.errors import RegistryError
from registry.storage.database import Database
from registry.storage.errors import DatabaseAhead, DatabaseOutdated
from registry.storage.objects import Objects, RequestLimits
from server.doctor.finding import Finding, ok, wrong
from server.engine.link import Endpoint
from server.engine.liveness import ask_core
from server.engine.members import Listed
from server.home import LOCK_NAME
from server.preflight import ModelUnusable, PortTaken, bound_socket, check_model
from server.settings import Settings

_ENGINE_SECONDS, _READY_SECONDS, _STORE_SECONDS = 10.0, 5.0, 10.0


def check_server(settings: Settings) -> Iterator[Finding]:
    """Yield whether a server runs on the home and is ready; without one, whether it could listen.

    The port is bound for a moment.
    """
    owner = running_server(settings.home)
    if owner is not None:
        yield _ready(owner)
        return
    try:
        with bound_socket(settings.host, settings.port):
            yield ok("port", f"{settings.host}:{settings.port} is free; no server runs on the home")
    except PortTaken as error:
        advice = "stop the program that has it (`ss -ltnp` names it), or choose another WEFT_PORT"
        yield wrong("port", str(error).partition(": ")[0], advice)


def check_database(settings: Settings) -> Finding:
    """Say whether the database can be used and has the revision of this release."""
    try:
        database = Database(settings.database)
        try:
            return ok("database", f"revision {database.check()}")
        finally:
            database.close()
    except DatabaseOutdated as error:
        if error.found is None:
            return ok("database", "empty: it is created at the first start")
        detail = f"at revision {error.found}, and this release needs {error.head}"
        return wrong("database", detail, "back it up and run `weft db upgrade`")
    except DatabaseAhead as error:
        detail = f"at revision {error.found}, which this release does not know"
        return wrong("database", detail, "install the newer release, or restore a dump of it")
    except RegistryError as error:
        return wrong("database", str(error), "check WEFT_DATABASE_URL and that the server runs")


def check_store(settings: Settings) -> Finding:
    """Say whether the object store can be used; an object is written there and removed."""
    if settings.store is None:
        return ok("store", "the folders of the home")
    try:
        Objects(settings.store, RequestLimits(_STORE_SECONDS, retry_seconds=0)).check()
    except RegistryError as error:
        return wrong("store", str(error), "correct WEFT_STORE or the cloud's variables")
    return ok("store", f"{settings.store} can be read and written")


def check_bases(settings: Settings) -> Iterator[Finding]:
    """Yield whether the files of each base are there."""
    yield from map(_check_base, settings.of_bases())


def _check_base(settings: Settings) -> Finding:
    try:
        check_model(settings)
    except ModelUnusable as error:
        detail, _, advice = str(error).partition(": ")
        return wrong("model", detail, advice or "set WEFT_MODEL to a folder or a Hub id")
    if settings.engine_url:
        return ok("model", f"{settings.model}, loaded by the engine elsewhere")
    return ok("model", settings.model)


def check_engines(settings: Settings) -> Iterator[Finding]:
    """Yield whether each engine at WEFT_ENGINE_URL answers through its core, with this key."""
    if not settings.engine_url:
        yield ok("engine", "weft starts its own")
        return
    key = settings.engine_key.get_secret_value() if settings.engine_key else None
    yield from asyncio.run(_ask_engines(Listed(settings.engine_url, key)))


def running_server(home: Path) -> dict[str, str] | None:
    """Return process id and URL of the server that holds the home's lock; None without one."""
    try:
        with (home / LOCK_NAME).open(encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return {name: str(value) for name, value in json.load(lock).items()}
    except (OSError, ValueError, AttributeError):
        pass
    return None


async def _ask_engines(members: Listed) -> list[Finding]:
    try:
        endpoints = await members.endpoints()
    except OSError as error:
        return [wrong("engine", str(error), "correct WEFT_ENGINE_URL, or the name's records")]
    in_order = sorted(endpoints, key=lambda endpoint: endpoint.url)
    return await asyncio.gather(*map(_ask_engine, in_order))


async def _ask_engine(endpoint: Endpoint) -> Finding:
    async with aiohttp.ClientSession() as http:
        problem = await ask_core(http, endpoint, _ENGINE_SECONDS)
    if problem is None:
        return ok("engine", f"{endpoint.url} answers through its core, with weft's plug-in")
    advice = {
        401: "set WEFT_ENGINE_KEY to the engine's VLLM_API_KEY",
        404: "start it with weft's plug-in: VLLM_PLUGINS=weft",
    }.get(problem.status or 0, "start it, or correct WEFT_ENGINE_URL; its log names the cause")
    return wrong("engine", f"{endpoint.url}: {problem.reason}", advice)


def _ready(owner: dict[str, str]) -> Finding:
    place = f"process {owner['pid']} at {owner['url']}"
    try:
        answer = httpx.get(f"{owner['url']}/ready", timeout=_READY_SECONDS, trust_env=False)
        if answer.status_code == 200:
            return ok("server", f"{place} is ready")
        problems = answer.json()["problems"]
        reason = "; ".join(f"{part} {problem}" for part, problem in problems.items())
    except (httpx.HTTPError, ValueError, KeyError, AttributeError) as error:
        reason = f"no answer to /ready: {error!r}"
    advice = "read its log and engine.log; deploy/RUNBOOK.md goes from symptoms to causes"
    return wrong("server", f"{place} is not ready: {reason}", advice)
