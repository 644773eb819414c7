"""The end of a job: from what was learned to a model that answers.

The pool's members are checked again. The method's own candidate is merged, loaded and scored by the
engine, and judged again by what the engine answers. Then the candidate that the request picks, or
the best that can be served, is published; unasked, none that was not found better than the base.
Every step can be repeated: a job whose gateway stops here is finished by the next one.
Not covered: learning (`worker`), and the job's row (`runner`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from merge.adaptive.candidates import TESTS
from merge.adaptive.verdict import BASE
from merge.errors import MergeError
from merge.peft_format import FormatError, open_folder
from registry.callers import Caller
from registry.errors import (
    AdmissionRefused,
    CompositionDenied,
    ContentQuarantined,
    NameTaken,
    UnknownReference,
    VersionQuarantined,
    VersionRetired,
)
from registry.jobs.types import Job
from server.artifacts.canary import CanaryFailed
from server.artifacts.provide import Provider
from server.artifacts.store import ArtifactStore
from server.artifacts.worker import BuildTimeout, BuildTooLarge
from server.compose.resolve import Bare, Target
from server.engine.protocol import Engine, EngineRefused
from server.jobs.as_served import Judgement
from server.jobs.failures import Failure, JobFailed
from server.jobs.pools import unusable
from server.jobs.publish import NotServable, Publisher
from server.jobs.report import CandidateJson, ReportJson
from server.jobs.storage import JobStorage
from server.salts import CacheSalts
from server.served_bases import ServedBases
from server.telemetry.metrics import Timings

if TYPE_CHECKING:
    from merge.adaptive.scoring.examples import Example

Say = Callable[[str], Awaitable[None]]
BEST, NONE = "best", "none"
# An error that rules out one candidate; another one may still be published.
_RULES_OUT = (
    NotServable, MergeError, FormatError, EngineRefused, BuildTimeout, BuildTooLarge,
    AdmissionRefused, NameTaken, UnknownReference, VersionRetired, VersionQuarantined,
    ContentQuarantined, CompositionDenied, CanaryFailed,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a job that learned something: a report, and a model or why there is none."""

    report: ReportJson
    model: str | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Finisher:
    """Finishes jobs."""

    publisher: Publisher
    provider: Provider
    artifacts: ArtifactStore
    storage: JobStorage
    bases: ServedBases
    salts: CacheSalts

    def without_engines(self, reason: str) -> "Finisher":
        """Return one that publishes without loading and scoring."""
        return replace(self, bases=self.bases.without_engines(reason))

    async def finish(self, job: Job, outcome: Mapping[str, Any], say: Say) -> Finished:
        """Merge, load, score and publish what a job has learned.

        Args:
            job: its row.
            outcome: what was learned: `merge.adaptive.adapt.Outcome.to_json`.
            say: writes a sentence into the job's log.

        Raises:
            EngineUnavailable, BuildFailed, BuildQueueFull, DatabaseUnavailable, PoolFull: try again
                later.
            StoreFull, StoreBroken, StorageFailed, OSError: a disk is full or gone.
        """
        report = await asyncio.to_thread(self._report, job, outcome)
        judgement = Judgement(report, self.storage.folder(job.id))
        report["served"] = await self._score_main(job, judgement, say)
        try:
            return Finished(report, await self._publish(job, judgement, say))
        except JobFailed as error:
            return Finished(report, failure=error.failure)

    def _report(self, job: Job, outcome: Mapping[str, Any]) -> ReportJson:
        """Return the outcome as a report whose candidates say why they cannot be served, if so."""
        candidates: list[CandidateJson] = outcome["candidates"]
        members = {reference for candidate in candidates for reference in candidate["members"]}
        # A candidate's members include the job's own adapters, which the registry does not know.
        pool = {member["reference"] for member in job.request["members"]}
        reasons = unusable(self.publisher.registry, sorted(members & pool), caller_of_job(job))
        checked: list[CandidateJson] = []
        for candidate in candidates:
            against = [reasons[name] for name in candidate["members"] if name in reasons]
            try:
                self.publisher.check_policies(job, candidate)
            except CompositionDenied as error:
                against.append(str(error))
            serving = candidate["serve"]
            if serving["kind"] == "nothing":
                against.append(serving["reason"])
            checked.append({**candidate, "served": None, "unservable": " ".join(against) or None})
        added = {"job": job.id, "base": job.base, "served": None, "published": None}
        return cast("ReportJson", {**outcome, **added, "candidates": checked})

    async def _score_main(self, job: Job, judgement: Judgement, say: Say) -> str | None:
        """Score the method's own candidate as served; return why not, if not."""
        main = _by_name(judgement.report)[judgement.report["main"]]
        if main["unservable"]:
            return main["unservable"]
        serving = main["serve"]
        if serving["kind"] == "recipe" and serving["adapters"] and job.request["serve"] == NONE:
            return "serve is none, and it needs adapters of the job in the registry"
        try:
            target = await asyncio.to_thread(self.publisher.prepare, job, main, job.name)
            if target is None:
                return "it is scored once it is published"
            return await self._score(job, judgement, main, target, say)
        except _RULES_OUT as error:
            main["unservable"] = str(error)
            return str(error)

    async def _score(
        self, job: Job, judgement: Judgement, candidate: CandidateJson, target: Target, say: Say
    ) -> str | None:
        """Load a candidate and fill in its `served`; return why not, if not."""
        from server.jobs.engine_scorer import ScoringFailed, score  # here: it imports torch

        if candidate["served"] is not None:
            return None
        async with AsyncExitStack() as stack:
            if not isinstance(target, Bare):
                await say(f"Merging and loading {candidate['name']}.")
            model, engine = await self._ready(target, stack)
            if engine is None:
                return "there is no engine to score with: the figures are of what was learned"
            if not isinstance(target, Bare) and await asyncio.to_thread(self._has_head, model):
                return "prompt log-probabilities are not available for adapters of the lm_head"
            await say(f"Scoring {candidate['name']} on the engine.")
            examples = await asyncio.to_thread(self._examples, job)
            options = judgement.report["options"]
            try:
                scored = await score(
                    engine, model, examples, pattern=options["pattern"],
                    longest_answer=options["longest_answer"],
                    salt=await self.salts.of(caller_of_job(job)),
                )  # fmt: skip
            except ScoringFailed as error:
                return str(error)
        await asyncio.to_thread(judgement.add, candidate, model, scored)
        return None

    async def _ready(self, target: Target, stack: AsyncExitStack) -> tuple[str, Engine | None]:
        """Return the model of a target and the engine that has loaded it, until `stack` closes.

        Without engines the target is only on disk.
        """
        base = self.bases[target.base]
        absent = base.fleet.absent is not None
        if isinstance(target, Bare):
            engine = None if absent else stack.enter_context(base.fleet.at(None))
            return base.served_name, engine
        if absent:
            return await stack.enter_async_context(self.provider.hold(target, Timings())), None
        provided = await stack.enter_async_context(self.provider.provide(target, Timings()))
        return provided.digest, provided.engine

    async def _publish(self, job: Job, judgement: Judgement, say: Say) -> str | None:
        """Publish the picked candidate, or the best that can be served; return its model.

        The report then names it. None where the request publishes none.

        Raises:
            JobFailed: no candidate can be published.
        """
        pick, report = job.request["serve"], judgement.report
        if pick == NONE:
            return None
        candidates = _to_try(report) if pick == BEST else [_picked(pick, report)]
        for candidate in candidates:
            if candidate["unservable"]:
                continue
            try:
                model, unscored = await self._score_and_publish(job, judgement, candidate, say)
            except _RULES_OUT as error:
                candidate["unservable"] = str(error)
                continue
            if candidate["name"] == report["main"]:
                report["served"] = unscored
            report["published"] = {"candidate": candidate["name"], "model": model}
            if pick == BEST and candidate["name"] != report["best"]:
                report["sentence"] = _instead(_by_name(report)[report["best"]], candidate)
                report["best"] = candidate["name"]
            await say(f"{candidate['name']} answers as {model}.")
            return model
        raise JobFailed(_none_servable(pick, candidates))

    async def _score_and_publish(
        self, job: Job, judgement: Judgement, candidate: CandidateJson, say: Say
    ) -> tuple[str, str | None]:
        """Publish a candidate that the engine loads; return its model, and why it has no score.

        It is loaded before it gets a name wherever that is possible.
        """
        target = await asyncio.to_thread(self.publisher.prepare, job, candidate, job.name)
        unscored = None
        if target is not None:
            unscored = await self._score(job, judgement, candidate, target, say)
            _refuse_worse(job, judgement.report, candidate)
        published = await asyncio.to_thread(self.publisher.publish, job, candidate, job.name)
        if target is None:
            unscored = await self._score(job, judgement, candidate, published.target, say)
            _refuse_worse(job, judgement.report, candidate)
        return published.model, unscored

    def _has_head(self, digest: str) -> bool:
        return "lm_head" in open_folder(self.artifacts.path(digest)).modules

    def _examples(self, job: Job) -> list["Example"]:
        from merge.adaptive.scoring.examples import load_examples

        return load_examples((self.storage.folder(job.id) / TESTS).read_text())


def caller_of_job(job: Job) -> Caller:
    """Return the caller that a job works for: its creator, with the rights of the namespace."""
    return Caller(job.created_by, "publish", job.namespace)


def _by_name(report: ReportJson) -> dict[str, CandidateJson]:
    return {candidate["name"]: candidate for candidate in report["candidates"]}


def _to_try(report: ReportJson) -> list[CandidateJson]:
    """Return the candidates that may be published unasked, the verdict's best first."""
    by_name = _by_name(report)
    # A release without an order has learned, and this one publishes: the best, or the base.
    names = report.get("order") or dict.fromkeys([report["best"], BASE])
    return [by_name[name] for name in names if name in by_name]


def _refuse_worse(job: Job, report: ReportJson, candidate: CandidateJson) -> None:
    """Raise NotServable for an unasked candidate that is no better as the engine serves it.

    An adapter of the job has a name by then, which stays; the job's model is another.
    """
    order = report.get("order")
    if job.request["serve"] == BEST and order is not None and candidate["name"] not in order:
        raise NotServable("as the engine serves it, it is not found better than what is simpler.")


def _picked(name: str, report: ReportJson) -> CandidateJson:
    """Return the candidate of a name; the method's name means its best one."""
    by_name = _by_name(report)
    candidate = by_name.get(report["main"] if name == report["method"] else name)
    if candidate is None:
        known = ", ".join(by_name)
        raise JobFailed(
            Failure("not_servable", f"no candidate is named {name!r}; there are {known}", "serve")
        )
    return candidate


def _instead(best: CandidateJson, candidate: CandidateJson) -> str:
    reason = str(best["unservable"]).rstrip(".")
    return f"{best['name']} did best and cannot be served ({reason}): serve {candidate['name']}"


def _none_servable(pick: str, candidates: Sequence[CandidateJson]) -> Failure:
    reasons = dict.fromkeys(
        f"{candidate['title']}: {candidate['unservable']}" for candidate in candidates
    )
    what = "no candidate can be served" if pick == BEST else f"{pick} cannot be served"
    return Failure("not_servable", f"{what}. {' '.join(reasons)}", "serve")
