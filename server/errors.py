"""Every error that a client can meet: its status, its code, and the OpenAI envelope around it.

`ERRORS` is the table in README.md; a test holds the two against each other and proves that every
error class of the packages below has a row. An exception without a row is a fault of ours: 500.
"""

import logging
from dataclasses import dataclass

from starlette.responses import JSONResponse

from merge import errors as merge_errors
from merge.peft_format import FormatError
from registry import errors as registry_errors
from server.artifacts.build import BuildFailed, BuildQueueFull
from server.artifacts.provide import ArtifactGone
from server.artifacts.store import StoreBroken, StoreFull
from server.artifacts.worker import BuildTimeout
from server.compose.expression import ExpressionInvalid
from server.compose.resolve import NotAnIngredient, RankTooLarge, WrongBase
from server.engine.protocol import EngineRefused, EngineUnavailable

_log = logging.getLogger("weft.server")


class RequestInvalid(ValueError):
    """The body of a request is not what the route takes."""

    def __init__(self, message: str, param: str | None = None) -> None:
        self.param = param
        super().__init__(message)


class KeyInvalid(Exception):
    """No key, or a wrong one."""

    def __init__(self) -> None:
        super().__init__("give a valid key: Authorization: Bearer KEY")


@dataclass(frozen=True, slots=True)
class Row:
    """How one kind of error is told to a client, and what it means to one."""

    status: int
    code: str
    meaning: str
    retry_after_seconds: int | None = None


_RETRY_SECONDS = 5
ERRORS: dict[type[Exception], Row] = {
    RequestInvalid: Row(400, "invalid_request", "the body is not what the route takes"),
    ExpressionInvalid: Row(400, "invalid_expression", "`model` does not parse; a caret says where"),
    NotAnIngredient: Row(400, "not_an_ingredient", "a composition stands where an adapter must"),
    merge_errors.RecipeInvalid: Row(400, "invalid_recipe", "an unknown method, option or value"),
    registry_errors.ReferenceInvalid: Row(400, "invalid_reference", "not a name, not a digest"),
    KeyInvalid: Row(401, "invalid_api_key", "no key, or a wrong one"),
    registry_errors.UnknownReference: Row(
        404, "model_not_found", "nothing is registered under the name; near ones are given"
    ),
    merge_errors.IncompatibleAdapters: Row(
        409, "incompatible_adapters", "members cannot be merged: which, and why"
    ),
    WrongBase: Row(409, "wrong_base", "what was named belongs to another base"),
    registry_errors.VersionRetired: Row(410, "version_retired", "the version is out of use"),
    ArtifactGone: Row(410, "artifact_gone", "a merged digest whose files cannot be made again"),
    merge_errors.UnsafeResult: Row(422, "unsafe_result", "the merge would harm the engine"),
    RankTooLarge: Row(422, "rank_too_large", "one adapter is larger than the engine takes"),
    FormatError: Row(422, "invalid_adapter", "an ingredient's files are no LoRA adapter"),
    EngineRefused: Row(422, "engine_refused", "the engine would not load it; its reason is given"),
    BuildQueueFull: Row(503, "merge_queue_full", "too many merges are waiting", _RETRY_SECONDS),
    BuildFailed: Row(503, "build_failed", "a merge worker died", _RETRY_SECONDS),
    BuildTimeout: Row(503, "build_timeout", "the merge took too long", _RETRY_SECONDS),
    EngineUnavailable: Row(
        503, "engine_unavailable", "the engine is starting or restarting", _RETRY_SECONDS
    ),
    registry_errors.DatabaseUnavailable: Row(
        503, "database_unavailable", "the database cannot be used", _RETRY_SECONDS
    ),
    StoreBroken: Row(503, "storage_broken", "the disk cannot be used", _RETRY_SECONDS),
    StoreFull: Row(507, "storage_full", "the disk is full"),
    # What is left of the registry's errors can only come from our own data.
    registry_errors.RegistryError: Row(500, "registry_error", "weft's own data is damaged"),
}
_INTERNAL = Row(500, "internal_error", "a fault of weft")
_TYPES = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}


def row_of(error: BaseException) -> Row:
    """Return the row of the nearest class of `error` that has one."""
    for kind in type(error).__mro__:
        if kind in ERRORS:
            return ERRORS[kind]
    return _INTERNAL


def envelope(error: BaseException) -> tuple[Row, dict[str, dict[str, object]]]:
    """Return the row of `error` and the OpenAI-shaped body that tells it."""
    row = row_of(error)
    if row is _INTERNAL:
        _log.exception("a request met a fault of ours", exc_info=error)
        message = "a fault of the server; it is in its log"
    else:
        message = str(error)
    kind = _TYPES.get(row.status, "server_error" if row.status >= 500 else "invalid_request_error")
    param = getattr(error, "param", "model" if row.status < 500 and row.status != 401 else None)
    return row, {"error": {"message": message, "type": kind, "param": param, "code": row.code}}


def error_response(error: BaseException) -> JSONResponse:
    """Return the answer that tells `error`, with Retry-After where trying again may help."""
    row, body = envelope(error)
    seconds = getattr(error, "retry_after_seconds", row.retry_after_seconds)
    headers = {"Retry-After": str(seconds)} if seconds is not None else None
    return JSONResponse(body, status_code=row.status, headers=headers)
