"""The canary: a new merge answers the operator's prompts before anybody is served by it.

The prompts (`canary_file`) are asked on the engine itself, once per merge and set of prompts; the
result is stored with the artifact. Not covered: adapters that were not merged here.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from registry.versions.canaries import Canaries, CanaryFailure, CanaryResult
from server.artifacts.canary_file import CanaryPrompt, CanarySet
from server.artifacts.leases import Leases
from server.engine.fleet import Fleet
from server.engine.protocol import Engine, EngineFailed
from server.pools import Pools
from server.shared_tasks import shared_task

_AT_ONCE = 4  # prompts that the engine answers at once, of all canaries
_SECONDS = 300.0
_REMEMBERED = 10_000  # digests that may be served
_SHOWN = 200  # characters of an answer that failed
Load: TypeAlias = Callable[[str, Engine], Awaitable[None]]
_log = logging.getLogger("weft.server")


class CanaryFailed(Exception):
    """A merge does not answer the canary's prompts as expected."""

    def __init__(self, digest: str, result: CanaryResult) -> None:
        self.digest, self.result = digest, result
        numbers = ", ".join(str(failure.number) for failure in result.failures)
        super().__init__(
            f"the merge {digest} does not pass the server's canary: {len(result.failures)} of "
            f"{result.asked} prompts failed (numbers {numbers}). Use other ingredients or weights; "
            f"`weft artifacts show {digest[:12]}` has the details"
        )


class CanaryUnanswered(Exception):
    """The engine did not answer a prompt of the canary, so that nothing is known of the merge."""

    retry_after_seconds = 5


class Canary:
    """Asks the canary's prompts. One instance per gateway, on one event loop."""

    def __init__(
        self, prompts: CanarySet, results: Canaries, leases: Leases, pools: Pools,
        *, enforce: bool,
    ) -> None:  # fmt: skip
        self._set, self._results = prompts, results
        self._leases, self._pools, self._enforce = leases, pools, enforce
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._served: set[str] = set()  # digests that passed, or that need not
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def check(self, digest: str, fleet: Fleet, load: Load) -> None:
        """Return once a digest may be served; concurrent calls share one canary.

        Args:
            digest: an artifact or a version; versions that were not merged here pass.
            fleet: the engines of its base.
            load: loads it into an engine.

        Raises:
            CanaryFailed: it is a merge that failed, now or before, and results are enforced.
            CanaryUnanswered, EngineUnavailable: nothing is known yet, and results are enforced.
        """
        if digest in self._served:
            return
        task = self._asking.get(digest)
        if task is None:
            task = shared_task(self._check(digest, fleet, load), name=f"canary {digest[:12]}")
            self._asking[digest] = task
            task.add_done_callback(lambda _: self._asking.pop(digest, None))
        await asyncio.shield(task)

    async def _check(self, digest: str, fleet: Fleet, load: Load) -> None:
        if not await self._pools.resolve.run(self._results.is_merge, digest):
            self._remember(digest)
            return
        result = await self._pools.resolve.run(self._results.find, digest, self._set.digest)
        try:
            result = result or await self._ask(digest, fleet, load)
        except CanaryUnanswered as error:
            if self._enforce:
                raise
            _log.warning("The canary of %s was not answered: %s", digest, error)
            return
        if result.failures:
            _log.warning("The merge %s fails %d canaries", digest, len(result.failures))
            if self._enforce:
                raise CanaryFailed(digest, result)
        self._remember(digest)

    def _remember(self, digest: str) -> None:
        if len(self._served) >= _REMEMBERED:
            self._served.clear()
        self._served.add(digest)

    async def _ask(self, digest: str, fleet: Fleet, load: Load) -> CanaryResult:
        """Ask every prompt and store the result."""
        started = time.perf_counter()
        # A lease of its own: the request may end while the engine still answers.
        async with self._leases.hold(digest):
            with fleet.at(digest) as engine:
                await load(digest, engine)
                failures = await self._failures(digest, engine)
        return await self._pools.resolve.run(
            self._results.record, digest, self._set.digest, asked=len(self._set.prompts),
            failures=failures, seconds=time.perf_counter() - started,
        )  # fmt: skip

    async def _failures(self, digest: str, engine: Engine) -> list[CanaryFailure]:
        answers = [
            asyncio.create_task(self._failure(digest, engine, number, prompt))
            for number, prompt in enumerate(self._set.prompts, 1)
        ]
        try:
            async with asyncio.timeout(_SECONDS):
                failures = await asyncio.gather(*answers)
        except TimeoutError:
            raise CanaryUnanswered(f"the canary took longer than {_SECONDS:g} s") from None
        finally:
            for answer in answers:
                answer.cancel()
        return [failure for failure in failures if failure is not None]

    async def _failure(
        self, digest: str, engine: Engine, number: int, prompt: CanaryPrompt
    ) -> CanaryFailure | None:
        async with self._turn:
            answer = await self._answer(digest, engine, number, prompt)
        if prompt.passes(answer):
            return None
        return CanaryFailure(number, prompt.expected, answer[:_SHOWN])

    async def _answer(self, digest: str, engine: Engine, number: int, prompt: CanaryPrompt) -> str:
        body = json.dumps(prompt.request(digest)).encode()
        try:
            async with engine.send(prompt.path, body, model=digest) as response:
                data = await response.read()
        except EngineFailed as error:
            raise CanaryUnanswered(f"prompt {number}: {error}") from error
        if response.status != 200:
            raise CanaryUnanswered(
                f"the engine answered prompt {number} with {response.status}: {data[:200]!r}; "
                "mend the canary file if the prompt is at fault"
            )
        choice: dict[str, Any] = json.loads(data)["choices"][0]
        text = choice["message"]["content"] if prompt.user is not None else choice["text"]
        return str(text or "")
