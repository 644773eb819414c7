"""What changes under the traffic: aliases, versions, artifacts, and the engine itself."""

import asyncio
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import httpx
from safetensors.torch import load_file, save_file

from server.cli.client import tar_of
from tests.engine.churn.requests import Draw, Leaving, Moving
from tests.engine.gateway import DEMO, Weft

ALIASES = 4
_BACK_SECONDS = 700.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Every:
    """A change that follows each `requests` requests."""

    requests: int
    change: Callable[[], Awaitable[None]]


class Changes:
    """Makes changes as the requests advance. `counts` has how often each was made."""

    def __init__(self, weft: Weft, draw: Draw, scratch: Path, *, count: int, seed: int) -> None:
        self._weft, self._draw, self._scratch = weft, draw, scratch
        self._rng = Random(seed)
        self._http = weft.http()
        self.counts: Counter[str] = Counter()
        self._done = self._made = 0
        self._count = count
        self._regular = [
            Every(25, self._move_alias), Every(20, self._delete_by_hand),
            Every(40, self._delete_by_request), Every(60, self._publish), Every(60, self._retire),
        ]  # fmt: skip
        self._faults = [
            (count * 1 // 4, "engine killed", Weft.core_pid, signal.SIGKILL),
            (count * 2 // 4, "engine hung", Weft.core_pid, signal.SIGSTOP),
            (count * 3 // 4, "engine killed", Weft.engine_pid, signal.SIGKILL),
        ]

    async def prepare(self) -> None:
        """Publish the adapters whose aliases will move."""
        for number in range(ALIASES):
            name = f"moving-{number}"
            first, _ = await self._upload(name, alias="live"), await self._upload(name)
            self._draw.moving.append(Moving(f"{name}@live", [first]))
        await self._publish()

    def advance(self, done: int) -> None:
        """Note that `done` requests are answered."""
        self._done = done

    async def run(self) -> None:
        """Make each change when its time comes, until every request is answered."""
        await asyncio.gather(self._change(), self._break())
        await self._http.aclose()

    async def _change(self) -> None:
        due = {id(every): every.requests for every in self._regular}
        while self._done < self._count:
            for every in self._regular:
                if self._done >= due[id(every)]:
                    due[id(every)] += every.requests
                    await every.change()
            await asyncio.sleep(_POLL_SECONDS)

    async def _break(self) -> None:
        """Break the engine, each time once it is back from the time before."""
        for at, name, victim, number in self._faults:
            while self._done < at:
                await asyncio.sleep(_POLL_SECONDS)
            os.kill(victim(self._weft), number)
            self.counts[name] += 1
            await self._until_ready(503)
            await self._until_ready(200)

    async def _until_ready(self, status: int) -> None:
        until = time.monotonic() + _BACK_SECONDS
        async with self._weft.http() as http:
            while (await http.get("/ready")).status_code != status:
                if time.monotonic() > until:
                    raise TimeoutError(f"/ready is not {status} after {_BACK_SECONDS:.0f} s")
                await asyncio.sleep(_POLL_SECONDS)

    async def _move_alias(self) -> None:
        moving = self._rng.choice(self._draw.moving)
        name, _, alias = moving.model.partition("@")
        version = 1 + len(moving.digests) % 2  # it begins at 1
        path = f"/registry/adapters/{name}/-/versions/{version}"
        digest = (await self._checked("GET", path)).json()["digest"]
        moving.digests.append(digest)
        path = f"/registry/adapters/{name}/-/aliases/{alias}"
        await self._checked("PUT", path, json={"version": version})
        moving.settled = len(moving.digests) - 1
        self.counts["alias moved"] += 1

    async def _publish(self) -> None:
        name = f"leaving-{len(self._draw.leaving)}"
        self._draw.leaving.append(Leaving(f"{name}@1", await self._upload(name)))
        self.counts["published"] += 1

    async def _retire(self) -> None:
        staying = [leaving for leaving in self._draw.leaving if not leaving.retired]
        if len(staying) < 2:
            return
        leaving = staying[0]
        leaving.retiring = True
        name = leaving.model.partition("@")[0]
        await self._checked("DELETE", f"/registry/adapters/{name}/-/versions/1")
        leaving.retired = True
        self.counts["retired"] += 1

    async def _delete_by_hand(self) -> None:
        folders = [p for p in self._weft.settings.artifacts.iterdir() if not p.name.startswith(".")]
        if folders:
            folder = self._rng.choice(sorted(folders))
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            self.counts["artifact deleted by hand"] += 1

    async def _delete_by_request(self) -> None:
        """Ask the gateway to remove an artifact; one in use stays, as does one it cannot reach."""
        digests = sorted(self._draw.digests.values())
        if digests:
            response = await self._http.delete(f"/registry/artifacts/{self._rng.choice(digests)}")
            self.counts[f"artifact deletion answered {response.status_code}"] += 1

    async def _upload(self, name: str, alias: str | None = None) -> str:
        """Publish a version like no other and return its digest."""
        self._made += 1
        folder = await asyncio.to_thread(_scaled, self._scratch / str(self._made), self._made)
        query = {} if alias is None else {"alias": alias}
        body = b"".join(tar_of(folder))
        shutil.rmtree(folder)
        path = f"/registry/adapters/{name}/-/versions"
        headers = {"content-type": "application/x-tar"}
        response = await self._checked("POST", path, content=body, params=query, headers=headers)
        return str(response.json()["version"]["digest"])

    async def _checked(self, method: str, path: str, **more: object) -> httpx.Response:
        response = await self._http.request(method, path, **more)  # type: ignore[arg-type]
        assert response.is_success, (path, response.text)
        return response


def _scaled(folder: Path, number: int) -> Path:
    """Write a demo adapter whose update is a little larger, by a factor of its own."""
    names = ("zorp", "blim", "frob")
    source = DEMO / "adapters" / names[number % len(names)]
    tensors = load_file(source / "adapter_model.safetensors")
    factor = 1 + number / 100  # bfloat16 has three digits
    folder.mkdir(parents=True)
    scaled = {key: value * factor if "lora_B" in key else value for key, value in tensors.items()}
    save_file(scaled, folder / "adapter_model.safetensors")
    shutil.copy(source / "adapter_config.json", folder)
    return folder
