"""Request and response bodies of jobs."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from registry.jobs.types import Job
from registry.references import MAX_LENGTH
from registry.types import EventKind, JobStatus, Level
from server.admin.bodies import Body, Name
from server.admin.schemas import Item
from server.jobs.create import JobRequest

# Larger sets go through /v1/files, which streams: a JSON body is parsed on the event loop.
MAX_INLINE = 1000
_FILE = "file-0123456789abcdef01234567"
_JOB = "ftjob-0123456789abcdef01234567"
_MOMENT = "2026-11-25T08:10:00Z"
_EXAMPLE = {
    "messages": [
        {"role": "user", "content": "Which court?"},
        {"role": "assistant", "content": "The High Court."},
    ]
}
_FileId = Annotated[str, StringConstraints(pattern="^file-[0-9a-f]{24}$")]
_Candidate = Annotated[str, StringConstraints(pattern="^[a-z][a-z0-9_]*$", max_length=60)]
_Key = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_Value = Annotated[str, StringConstraints(max_length=512)]


class JobBody(Body):
    """A job: examples, in a file or inline, and the options of the method."""

    training_file: _FileId | None = Field(None, examples=[_FILE])
    validation_file: _FileId | None = Field(None, examples=[None])
    examples: list[dict[str, Any]] | None = Field(
        None, max_length=MAX_INLINE, examples=[[_EXAMPLE]],
        description="Chats, instead of `training_file`; ADAPTIVE.md describes the format.",
    )  # fmt: skip
    validation_examples: list[dict[str, Any]] | None = Field(
        None, max_length=MAX_INLINE, examples=[None]
    )
    options: dict[str, Any] = Field(
        {},
        examples=[{"method": "recycle", "steps": 100}],
        description="Options of the method by name.",
    )
    pool: str | list[str] | None = Field(
        None,
        examples=["tag=legal"],
        description="A filter or a list of references. Default: every adapter.",
    )
    k: int | list[int] | None = Field(
        None, examples=[10], description="The number of adapters to merge."
    )
    serve: _Candidate = Field(
        "best", examples=["best"], description="`best`, `none` or the name of a candidate."
    )
    name: Name | None = Field(None, examples=["team/legal-bot"])
    base: Name | None = Field(
        None, examples=[None], description="A served base; default: that of `recipe`, or the first."
    )
    seed: int | None = Field(None, ge=0, lt=2**31, examples=[0])
    metadata: dict[_Key, _Value] = Field({}, max_length=16, examples=[{"ticket": "L-17"}])

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.training_file is None) == (self.examples is None):
            raise ValueError("Give either training_file or examples.")
        if self.validation_file is not None and self.validation_examples is not None:
            raise ValueError("Give either validation_file or validation_examples.")
        return self

    def to_request(self, training: str, validation: str | None) -> JobRequest:
        """Return what is asked for, with the ids of its files."""
        options = self.options if self.k is None else {**self.options, "k": self.k}
        return JobRequest(
            training_file=training, base=self.base, validation_file=validation, options=options,
            pool=self.pool, serve=self.serve, name=self.name, seed=self.seed,
            metadata=self.metadata,
        )  # fmt: skip


class CheckBody(Body):
    """Files of examples that were uploaded for a job."""

    training_file: _FileId = Field(examples=[_FILE])
    validation_file: _FileId | None = Field(None, examples=[None])


class ProblemItem(Item):
    """Something that is wrong with a file; `line` is null for the whole of it."""

    file: Literal["training_file", "validation_file"] = Field(examples=["training_file"])
    line: int | None = Field(examples=[3])
    message: str = Field(examples=["not JSON (Expecting value: line 1 column 1 (char 0))"])


class CheckItem(Item):
    """What a job would find in its files: the first problems, and how many `more` there are."""

    usable: bool = Field(examples=[False])
    examples: int = Field(examples=[118])
    questions: int = Field(examples=[100], description="Different questions to learn from.")
    validation_examples: int = Field(examples=[0])
    problems: list[ProblemItem]
    more: int = Field(examples=[0])


class CandidateBody(Body):
    """A candidate of a job to publish, under the job's name or another."""

    candidate: _Candidate = Field(examples=["fresh_lora"])
    name: Name | None = Field(None, examples=["team/legal-lora"])


class JobItem(Item):
    """A job; once it has succeeded, `model` can be used in requests."""

    id: str = Field(examples=[_JOB])
    status: JobStatus = Field(examples=["running"])
    base: str = Field(examples=["meta-llama/Llama-3.1-8B-Instruct"])
    name: str = Field(max_length=MAX_LENGTH, examples=["team/legal-bot"])
    model: str | None = Field(examples=["team/legal-bot@1"])
    error: dict[str, Any] | None = Field(examples=[None])
    options: dict[str, Any] = Field(examples=[{"method": "recycle", "steps": 100}])
    pool: str | list[str] = Field(examples=["tag=legal"])
    members: int = Field(examples=[42], description="The number of adapters in the pool.")
    serve: str = Field(examples=["best"])
    training_file: str = Field(examples=[_FILE])
    validation_file: str | None = Field(examples=[None])
    seed: int = Field(examples=[0])
    metadata: dict[str, str] = Field(examples=[{"ticket": "L-17"}])
    device: str | None = Field(examples=["auto"])
    attempts: int = Field(examples=[1])
    created_at: datetime = Field(examples=[_MOMENT])
    created_by: str = Field(examples=["ada"])
    started_at: datetime | None = Field(examples=[_MOMENT])
    finished_at: datetime | None = Field(examples=[None])

    @classmethod
    def of(cls, job: Job) -> Self:
        """Return the item of a job."""
        request = job.request
        asked = {name: request[name] for name in ("options", "pool", "serve", "metadata")}
        own = {name: getattr(job, name) for name in cls.model_fields.keys() & set(job.__slots__)}
        return cls(**own, **asked, members=len(request["members"]))


class JobEventItem(Item):
    """An event of a job."""

    id: int = Field(examples=[17])
    at: datetime = Field(examples=[_MOMENT])
    level: Level = Field(examples=["info"])
    kind: EventKind | Literal["end"] = Field(examples=["metrics"])
    message: str = Field(examples=["recycle: step 10 of 100, training loss 1.2034"])
    data: dict[str, Any] = Field(examples=[{"stage": "recycle", "step": 10, "steps": 100}])
