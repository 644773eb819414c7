"""What is known about the request that this task works for; log lines and spans carry it.

Never a body and never a key: only names, digests, codes.
"""

import re
import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field

UNRESOLVED = "unresolved"
_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


@dataclass(slots=True)
class RequestRecord:
    """One request; tasks and threads that work for it share the record."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    caller: str | None = None
    model: str | None = None  # the digest of the adapter that answers, or the base's name
    error: str | None = None  # the code of an error that was answered
    namespace: str | None = None  # the caller's
    kind: str = UNRESOLVED  # base, stored, or the merge method
    stages: dict[str, float] = field(default_factory=dict)  # seconds
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def fields(self) -> dict[str, str]:
        """Return what is known, by the names that log lines use."""
        known = {
            "request_id": self.id, "caller": self.caller, "model": self.model, "error": self.error,
        }  # fmt: skip
        return {name: value for name, value in known.items() if value is not None}


_CURRENT: ContextVar[RequestRecord | None] = ContextVar("weft_request", default=None)


def begin(header: str | None) -> RequestRecord:
    """Start the record of a request; the client's X-Request-ID is kept if it can be logged."""
    record = RequestRecord(header) if header and _ID.fullmatch(header) else RequestRecord()
    _CURRENT.set(record)
    return record


def current() -> RequestRecord | None:
    """Return the record of the request that this task works for; None outside of requests."""
    return _CURRENT.get()


def note(
    *, caller: str | None = None, namespace: str | None = None, model: str | None = None,
    kind: str | None = None, error: str | None = None,
) -> None:  # fmt: skip
    """Add to the record of this request, if there is one."""
    record = _CURRENT.get()
    if record is None:
        return
    record.caller = caller or record.caller
    record.model = model or record.model
    record.error = error or record.error
    record.namespace = namespace or record.namespace
    record.kind = kind or record.kind


def note_tokens(prompt: int, completion: int) -> None:
    """Add the tokens of an answer to the record of this request, if there is one."""
    record = _CURRENT.get()
    if record is not None:
        record.prompt_tokens += prompt
        record.completion_tokens += completion


def note_stage(stage: str, seconds: float) -> None:
    """Add to the time that this request has spent in a stage, if there is a request."""
    record = _CURRENT.get()
    if record is not None:
        record.stages[stage] = record.stages.get(stage, 0.0) + seconds
