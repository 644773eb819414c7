"""The end of a job: from what was learned to what answers.

The pool's members are looked at again; the method's own candidate is folded, loaded and asked, so
that the report has what is served beside what was learned; then the pick, or the best of what can
be served, is published. All of it can be done again: a job that is stopped here goes on from here.
Not covered: learning (`worker`), and the job's row (`runner`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from merge.errors import MergeError
from merge.peft_format import FormatError, open_folder
from registry.callers import Caller
from registry.errors import (
    AdmissionRefused,
    ContentQuarantined,
    NameTaken,
    UnknownReference,
    VersionQuarantined,
    VersionRetired,
)
from registry.jobs.types import Job
from server.artifacts.provide import Provider
from server.artifacts.store import ArtifactStore
from server.artifacts.worker import BuildTimeout
from server.compose.resolve import Bare, Planned, Stored, Target
from server.engine.protocol import Engine, EngineRefused
from server.jobs.failures import Failure, JobFailed
from server.jobs.pools import unusable
from server.jobs.publish import NotServable, Published, Publisher
from server.jobs.report import served_part
from server.jobs.storage import JobStorage
from server.metrics import Timings

if TYPE_CHECKING:
    from merge.adaptive.scoring.examples import Example

Say = Callable[[str], Awaitable[None]]
BEST, NONE = "best", "none"
_NO_ENGINE = "no engine could be asked: these are figures of what was learned"
# What speaks against one candidate, and not against going on with another.
_AGAINST = (
    NotServable, MergeError, FormatError, EngineRefused, BuildTimeout, AdmissionRefused, NameTaken,
    UnknownReference, VersionRetired, VersionQuarantined, ContentQuarantined,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Closed:
    """How a job ends that has learned something: with a report, and perhaps with an error."""

    report: Mapping[str, Any]
    model: str | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Closing:
    """Closes jobs. `engine` is None where there is none."""

    publisher: Publisher
    provider: Provider
    artifacts: ArtifactStore
    storage: JobStorage
    engine: Engine | None

    async def close(self, job: Job, outcome: Mapping[str, Any], say: Say) -> Closed:
        """Fold, serve, measure and publish what a job has learned.

        Args:
            job: as its row has it.
            outcome: what was learned: `merge.adaptive`.
            say: told of every step.

        Raises:
            EngineUnavailable, BuildFailed, BuildQueueFull, DatabaseUnavailable: not now.
            StoreFull, StoreBroken, StorageFailed, OSError: a disk is full or gone.
        """
        report = {**outcome, "job": job.id, "base": job.base, "served": None, "published": None}
        report["candidates"] = await asyncio.to_thread(self._checked, job, outcome["candidates"])
        by_name = {each["name"]: each for each in report["candidates"]}
        report["served"] = await self._ask_main(job, by_name[outcome["main"]], outcome, say)
        try:
            published = await self._publish(job, report, by_name, say)
        except JobFailed as error:
            return Closed(report, failure=error.failure)
        if published is None:
            return Closed(report)
        return Closed(report, published.model)

    def _checked(self, job: Job, candidates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return candidates with what speaks against each by now: a member that is out of use."""
        wanted = {name for each in candidates for name in each["members"]}
        # A job's own adapters are no references of the registry's.
        known = {each["reference"] for each in job.request["members"]}
        gone = unusable(self.publisher.registry, sorted(wanted & known), caller_of(job))
        checked = []
        for candidate in candidates:
            reasons = [gone[name] for name in candidate["members"] if name in gone]
            if candidate["serve"]["kind"] == "nothing":
                reasons.append(candidate["serve"]["reason"])
            against = " ".join(reasons) or None
            checked.append({**candidate, "served": None, "unservable": against})
        return checked

    async def _ask_main(
        self, job: Job, main: dict[str, Any], outcome: Mapping[str, Any], say: Say
    ) -> str | None:
        """Fold the method's own candidate and ask the engine; return why not, if not."""
        if main["unservable"]:
            return str(main["unservable"])
        serve = main["serve"]
        if serve["kind"] == "recipe" and serve["adapters"] and job.request["serve"] == NONE:
            return "it would need adapters of the job in the registry, and serve is none"
        try:
            target = await asyncio.to_thread(self.publisher.prepare, job, main, job.name)
            if target is None:
                return "it is asked once it is published"
            return await self._ask(job, main, target, outcome, say)
        except _AGAINST as error:
            main["unservable"] = str(error)
            return str(error)

    async def _ask(
        self,
        job: Job,
        candidate: dict[str, Any],
        target: Target,
        outcome: Mapping[str, Any],
        say: Say,
    ) -> str | None:
        """Have a candidate ready and put its served figures in; return why not, if not."""
        from merge.adaptive.scoring.scorer import figures  # here: they import torch
        from server.jobs.engine_scorer import ScoringFailed, score

        if candidate["served"] is not None:
            return None
        async with AsyncExitStack() as held:
            if isinstance(target, Bare):
                model = target.name
            else:
                await say(f"{candidate['name']} is folded and loaded.")
                model = await held.enter_async_context(self._ready(target))
            if self.engine is None:
                return _NO_ENGINE
            if not isinstance(target, Bare) and await asyncio.to_thread(self._has_head, model):
                return "prompt log-probabilities cannot be had of adapters of the lm_head"
            await say(f"{candidate['name']}: the engine is asked.")
            examples = await asyncio.to_thread(self._examples, job)
            options = outcome["options"]
            try:
                scored = await score(
                    self.engine, model, examples, pattern=options["pattern"],
                    longest_answer=options["longest_answer"],
                )  # fmt: skip
            except ScoringFailed as error:
                return str(error)
        told = await asyncio.to_thread(figures, scored, seed=int(outcome["seed"]))
        candidate["served"] = served_part(candidate, model, told)
        return None

    def _ready(self, target: Stored | Planned) -> AbstractAsyncContextManager[str]:
        """Return the context in which a target is on disk and, where there is one, loaded."""
        if self.engine is None:
            return self.provider.hold(target, Timings())
        return self.provider.provide(target, Timings())

    async def _publish(
        self, job: Job, report: dict[str, Any], by_name: Mapping[str, dict[str, Any]], say: Say
    ) -> Published | None:
        """Publish what was asked for, or the best that can be served; say which in the report.

        Raises:
            JobFailed: nothing can be.
        """
        wish = job.request["serve"]
        if wish == NONE:
            return None
        order = self._order(report, by_name) if wish == BEST else [_picked(wish, report, by_name)]
        for candidate in order:
            if candidate["unservable"]:
                continue
            try:
                made, why = await self._asked_and_made(job, candidate, report, say)
            except _AGAINST as error:
                candidate["unservable"] = str(error)
                continue
            if candidate["name"] == report["main"]:
                report["served"] = why
            report["published"] = {"candidate": candidate["name"], "model": made.model}
            if wish == BEST and candidate["name"] != report["best"]:
                report["sentence"] = _instead(by_name[report["best"]], candidate)
                report["best"] = candidate["name"]
            await say(f"{candidate['name']} answers as {made.model}.")
            return made
        raise JobFailed(_nothing_left(wish, order))

    async def _asked_and_made(
        self, job: Job, candidate: dict[str, Any], report: Mapping[str, Any], say: Say
    ) -> tuple[Published, str | None]:
        """Publish a candidate that the engine takes; return also why it was not asked, if not.

        What can be tried before it has a name is.
        """
        target = await asyncio.to_thread(self.publisher.prepare, job, candidate, job.name)
        why = None if target is None else await self._ask(job, candidate, target, report, say)
        made = await asyncio.to_thread(self.publisher.publish, job, candidate, job.name)
        if target is None:
            why = await self._ask(job, candidate, made.target, report, say)
        return made, why

    @staticmethod
    def _order(
        report: Mapping[str, Any], by_name: Mapping[str, dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return the candidates to try: what the learning would serve, then by their figures."""
        return [by_name[name] for name in dict.fromkeys([report["best"], *report["ranked"]])]

    def _has_head(self, digest: str) -> bool:
        return "lm_head" in open_folder(self.artifacts.path(digest)).modules

    def _examples(self, job: Job) -> list["Example"]:
        from merge.adaptive.candidates import VALIDATION
        from merge.adaptive.scoring.examples import load_examples

        return load_examples((self.storage.folder(job.id) / VALIDATION).read_text())


def caller_of(job: Job) -> Caller:
    """Return whom a job works for: who asked for it, with the rights of the namespace."""
    return Caller(job.created_by, "publish", job.namespace)


def _picked(
    name: str, report: Mapping[str, Any], by_name: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """Return the candidate of a name; the method's own name means its best."""
    found = by_name.get(report["main"] if name == report["method"] else name)
    if found is None:
        known = ", ".join(by_name)
        raise JobFailed(Failure("not_servable", f"no candidate is called {name}: {known}", "serve"))
    return found


def _instead(best: Mapping[str, Any], candidate: Mapping[str, Any]) -> str:
    reason = str(best["unservable"]).rstrip(".")
    return f"{best['name']} did best and cannot be served ({reason}): serve {candidate['name']}"


def _nothing_left(wish: str, order: Sequence[Mapping[str, Any]]) -> Failure:
    reasons = dict.fromkeys(f"{each['title']}: {each['unservable']}" for each in order)
    what = "nothing is left that can be served" if wish == BEST else f"{wish} cannot be served"
    return Failure("not_servable", f"{what}. {' '.join(reasons)}", "serve")
