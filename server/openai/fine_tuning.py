"""`/v1/fine_tuning/jobs`: OpenAI's own interface to adaptive merging.

`method={"type": "adaptive_merge", "adaptive_merge": {"hyperparameters": {…}}}` takes the options of
the method and two more, `pool` and `serve`. The objects are those that the `openai` client parses.
"""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from registry.jobs.types import Job, JobEvent
from registry.paging import cursor_at
from server.auth import Publisher, Reader
from server.errors import RequestInvalid
from server.gateway import Gateway
from server.jobs.create import MAX_SUFFIX, JobRequest, create_job
from server.openai.files import After, listed
from server.routing import openai_routes

KIND = "adaptive_merge"
MAX_PAGE = 100
_EVENT = "ftevent-"
JobId = Annotated[str, Path(max_length=100, examples=["ftjob-0123456789abcdef01234567"])]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
_FileId = Annotated[str, StringConstraints(max_length=100)]
_Key = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_Value = Annotated[str, StringConstraints(max_length=512)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AdaptiveMerge(_Body):
    """The options of the method by name, and `pool` and `serve`."""

    hyperparameters: dict[str, Any] = Field({}, examples=[{"pool": "tag=legal", "k": 10}])


class Method(_Body):
    """The fine-tuning method; `adaptive_merge` is the only one."""

    type: str = Field(max_length=100, examples=[KIND])
    adaptive_merge: AdaptiveMerge = Field(AdaptiveMerge(), examples=[{}])


class JobBody(BaseModel):
    """A fine-tuning job to create."""

    model_config = ConfigDict(extra="allow", frozen=True)

    model: str = Field(max_length=1000, examples=["meta-llama/Llama-3.1-8B-Instruct"])
    training_file: _FileId = Field(examples=["file-0123456789abcdef01234567"])
    validation_file: _FileId | None = Field(None, examples=[None])
    method: Method = Field(Method(type=KIND), examples=[{"type": KIND}])
    seed: int | None = Field(None, ge=0, lt=2**31, examples=[0])
    suffix: str | None = Field(None, min_length=1, max_length=MAX_SUFFIX, examples=["legal"])
    metadata: dict[_Key, _Value] | None = Field(None, max_length=16, examples=[{"team": "law"}])


def fine_tuning_router(gateway: Gateway) -> APIRouter:
    """Return the routes."""
    router = openai_routes("/fine_tuning/jobs", "fine-tuning")
    jobs, resolver = gateway.registry.jobs, gateway.resolver

    @router.post("")
    async def create(body: JobBody, caller: Publisher) -> dict[str, Any]:
        """Queue a job that learns from a file of examples."""
        if resolver.bases.called(body.model) is None:
            raise RequestInvalid(f"`model` must be the base, {resolver.bases}.", "model")
        wish = _request_of(body)
        job = await gateway.pools.jobs.run(create_job, resolver, wish, caller)
        gateway.jobs.wake()
        return job_object(job)

    @router.get("")
    def list_jobs(caller: Reader, after: After = None, limit: Limit = 20) -> dict[str, Any]:
        """List jobs, newest first."""
        page = jobs.page(cursor=after and cursor_at("jobs", after), limit=limit, caller=caller)
        return listed([job_object(job) for job in page.items], page.next_cursor is not None)

    @router.get("/{job}")
    def get_job(job: JobId, caller: Reader) -> dict[str, Any]:
        """Return a job."""
        return job_object(jobs.get(job, caller=caller))

    @router.post("/{job}/cancel")
    def cancel(job: JobId, caller: Publisher) -> dict[str, Any]:
        """Cancel a job: immediately if it is queued, within two seconds if it runs."""
        return job_object(jobs.cancel(job, actor=caller.name, caller=caller))

    @router.get("/{job}/events")
    def list_events(
        job: JobId, caller: Reader, after: After = None, limit: Limit = 20
    ) -> dict[str, Any]:
        """List the events of a job, newest first."""
        place = None if after is None else _event_number(after)
        page = jobs.events(job, after=place, limit=limit, oldest_first=False, caller=caller)
        return listed([event_object(each) for each in page.items], page.next_cursor is not None)

    @router.get("/{job}/checkpoints")
    def list_checkpoints(
        job: JobId,
        caller: Reader,
        after: After = None,
        limit: Limit = 10,
    ) -> dict[str, Any]:
        """List the checkpoint that was published, once the job has succeeded."""
        del limit
        finished = jobs.get(job, caller=caller)
        made = _checkpoints(finished, jobs.report(job, caller=caller) or {})
        return listed([] if after is not None else made, more=False)

    return router


def _request_of(body: JobBody) -> JobRequest:
    """Return what a body asks for.

    Raises:
        RequestInvalid: another method, or what is not supported here.
    """
    if body.method.type != KIND:
        raise RequestInvalid(f"`method.type` must be {KIND!r}, not {body.method.type!r}.", "method")
    for name, value in (body.model_extra or {}).items():
        if value is not None:
            raise RequestInvalid(f"The field {name!r:.80} is not supported.", name[:80])
    options = dict(body.method.adaptive_merge.hyperparameters)
    pool, serve = options.pop("pool", None), options.pop("serve", "best")
    if not (pool is None or isinstance(pool, str) or _is_list_of_texts(pool)):
        raise RequestInvalid("`pool` must be a filter or a list of references.", "pool")
    if not isinstance(serve, str):
        raise RequestInvalid("serve takes best, none or a candidate's name", "serve")
    return JobRequest(
        base=body.model, training_file=body.training_file, validation_file=body.validation_file,
        options=options, pool=pool, serve=serve, suffix=body.suffix, seed=body.seed,
        metadata=dict(body.metadata or {}),
    )  # fmt: skip


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def job_object(job: Job) -> dict[str, Any]:
    """Return the OpenAI job object of a job."""
    request = job.request
    asked = {**request["options"], "pool": request["pool"], "serve": request["serve"]}
    finished = job.finished_at
    return {
        "id": job.id, "object": "fine_tuning.job", "created_at": int(job.created_at.timestamp()),
        "error": job.error, "fine_tuned_model": job.model,
        "finished_at": None if finished is None else int(finished.timestamp()),
        "hyperparameters": {}, "model": job.base, "organization_id": job.namespace or "weft",
        "result_files": [], "seed": job.seed, "status": job.status,
        "trained_tokens": job.trained_tokens, "training_file": job.training_file,
        "validation_file": job.validation_file, "estimated_finish": None, "integrations": [],
        "metadata": request["metadata"],
        "method": {"type": KIND, KIND: {"hyperparameters": asked}},
    }  # fmt: skip


def event_object(event: JobEvent) -> dict[str, Any]:
    """Return the OpenAI event object of an event of a job."""
    kind: Literal["message", "metrics"] = "message" if event.kind == "message" else "metrics"
    return {
        "id": f"{_EVENT}{event.id}", "object": "fine_tuning.job.event", "level": event.level,
        "created_at": int(event.at.timestamp()), "message": event.message, "type": kind,
        "data": event.data,
    }  # fmt: skip


def _event_number(text: str) -> int:
    digits = text.removeprefix(_EVENT)
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        raise RequestInvalid(
            f"`after` must be the id of an event, such as {_EVENT}17, not {text!r:.80}.", "after"
        )
    return int(digits)


def _checkpoints(job: Job, report: Any) -> list[dict[str, Any]]:
    """Return the best checkpoint of the published candidate; empty while there is none."""
    name = (report.get("published") or {}).get("candidate")
    published = [each for each in report.get("candidates", ()) if each["name"] == name]
    if not published or job.model is None or job.finished_at is None:
        return []
    step = published[0]["best_step"] or 0
    losses = next(
        (point for point in published[0]["curve"] if point[0] == step), (step, None, None)
    )
    return [{
        "id": job.id.replace("ftjob-", "ftckpt-"), "object": "fine_tuning.job.checkpoint",
        "created_at": int(job.finished_at.timestamp()), "fine_tuning_job_id": job.id,
        "fine_tuned_model_checkpoint": job.model, "step_number": step,
        "metrics": {"step": step, "train_loss": losses[1], "valid_loss": losses[2]},
    }]  # fmt: skip
