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
from server.artifacts.leases import LeaseBusy
from server.artifacts.provide import ArtifactGone
from server.artifacts.store import StoreBroken, StoreFull
from server.artifacts.worker import BuildTimeout
from server.compose.expression import ExpressionInvalid
from server.compose.resolve import NotAnIngredient, RankTooLarge, WrongBase
from server.engine.protocol import EngineBusy, EngineRefused, EngineUnavailable

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
    """How one kind of error is told to a client."""

    status: int
    code: str
    retry_after_seconds: int | None = None


_RETRY_SECONDS = 5
ERRORS: dict[type[Exception], Row] = {
    RequestInvalid: Row(400, "invalid_request"),
    ExpressionInvalid: Row(400, "invalid_expression"),
    NotAnIngredient: Row(400, "not_an_ingredient"),
    merge_errors.RecipeInvalid: Row(400, "invalid_recipe"),
    KeyInvalid: Row(401, "invalid_api_key"),
    registry_errors.ReferenceInvalid: Row(400, "invalid_reference"),
    registry_errors.UnknownReference: Row(404, "model_not_found"),
    merge_errors.IncompatibleAdapters: Row(409, "incompatible_adapters"),
    WrongBase: Row(409, "wrong_base"),
    LeaseBusy: Row(409, "in_use"),
    EngineBusy: Row(409, "in_use"),
    registry_errors.VersionRetired: Row(410, "version_retired"),
    ArtifactGone: Row(410, "artifact_gone"),
    merge_errors.UnsafeResult: Row(422, "unsafe_result"),
    RankTooLarge: Row(422, "rank_too_large"),
    FormatError: Row(422, "invalid_adapter"),
    EngineRefused: Row(422, "engine_refused"),
    BuildQueueFull: Row(503, "merge_queue_full", _RETRY_SECONDS),
    BuildFailed: Row(503, "build_failed", _RETRY_SECONDS),
    BuildTimeout: Row(503, "build_timeout", _RETRY_SECONDS),
    EngineUnavailable: Row(503, "engine_unavailable", _RETRY_SECONDS),
    registry_errors.DatabaseUnavailable: Row(503, "database_unavailable", _RETRY_SECONDS),
    StoreBroken: Row(503, "storage_broken", _RETRY_SECONDS),
    StoreFull: Row(507, "storage_full"),
    registry_errors.StorageFailed: Row(507, "storage_failed"),
    # What is left of the registry's errors can only come from our own data.
    registry_errors.RegistryError: Row(500, "registry_error"),
}
_INTERNAL = Row(500, "internal_error")
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
