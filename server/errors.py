"""Every error that a client can meet: its status, its code, and the OpenAI envelope around it.

`ERRORS` is the table in REFERENCE.md (`make docs` writes it); a test proves that every
error class of the packages below has a row. An exception without a row is a fault of ours: 500.
"""

import logging
from dataclasses import dataclass

from starlette.responses import JSONResponse

from merge import errors as merge_errors
from merge.adaptive.options import OptionsInvalid
from merge.peft_format import FormatError
from registry import errors as registry_errors
from registry.jobs import errors as job_errors
from registry.search import errors as search_errors
from registry.sources import errors as sources_errors
from registry.storage import errors as storage_errors
from server.artifacts.build import BuildFailed, BuildQueueFull
from server.artifacts.leases import LeaseBusy
from server.artifacts.provide import ArtifactGone
from server.artifacts.store import StoreBroken, StoreFull
from server.artifacts.worker import BuildTimeout
from server.compose.expression import ExpressionInvalid
from server.compose.resolve import NotAnIngredient, RankTooLarge, WrongBase
from server.compose.retrieve import NothingFound, RetrievalInvalid
from server.embedders import EncoderUnavailable
from server.engine.protocol import EngineBusy, EngineRefused, EngineUnavailable
from server.jobs.pools import PoolEmpty, PoolInvalid
from server.jobs.publish import NotServable

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
    RetrievalInvalid: Row(400, "invalid_retrieval", "an `auto(…)` that cannot be carried out"),
    OptionsInvalid: Row(400, "invalid_options", "an unknown option of a job, or a bad value"),
    PoolInvalid: Row(400, "invalid_pool", "no pool that a job can choose from"),
    search_errors.FilterInvalid: Row(400, "invalid_filter", "a filter does not parse"),
    registry_errors.NameInvalid: Row(400, "invalid_name", "it cannot be a name"),
    registry_errors.AliasInvalid: Row(400, "invalid_alias", "it cannot be an alias"),
    registry_errors.DigestInvalid: Row(400, "invalid_digest", "not a digest's form"),
    search_errors.TagInvalid: Row(400, "invalid_tag", "it cannot be a tag"),
    storage_errors.ValueRefused: Row(400, "invalid_value", "text that no database can keep"),
    registry_errors.CursorInvalid: Row(400, "invalid_cursor", "not a cursor of this list"),
    registry_errors.EvaluationInvalid: Row(
        400, "invalid_evaluation", "a number that cannot be attached to a version"
    ),
    KeyInvalid: Row(401, "invalid_api_key", "no key, or a wrong one"),
    registry_errors.AccessDenied: Row(
        403, "access_denied", "not with this key's role or namespace"
    ),
    registry_errors.UnknownKey: Row(404, "key_not_found", "no key has this name"),
    job_errors.UnknownFile: Row(404, "file_not_found", "no file has this id"),
    job_errors.UnknownJob: Row(404, "job_not_found", "no job has this id"),
    job_errors.FileInUse: Row(409, "file_in_use", "a job that has not ended needs the file"),
    job_errors.JobFinished: Row(409, "job_finished", "the job has ended already"),
    job_errors.JobNotSucceeded: Row(
        409, "job_not_succeeded", "the job has found nothing, or not yet"
    ),
    registry_errors.NameTaken: Row(409, "name_taken", "the name belongs to something else"),
    registry_errors.KeyNameTaken: Row(409, "key_name_taken", "a key had this name before"),
    registry_errors.BaseConflict: Row(409, "base_conflict", "another base, or other shapes"),
    registry_errors.VersionInUse: Row(
        409, "version_in_use", "aliases or compositions use the version"
    ),
    EngineBusy: Row(409, "artifact_busy", "running requests use the artifact"),
    LeaseBusy: Row(409, "artifact_leased", "requests under way hold the artifact"),
    registry_errors.AdmissionRefused: Row(422, "admission_refused", "findings say why"),
    sources_errors.NothingToImport: Row(422, "nothing_to_import", "no adapter lies there"),
    registry_errors.BaseConfigInvalid: Row(
        422, "invalid_base_config", "the modules' shapes do not follow from the config.json"
    ),
    storage_errors.FolderUnreadable: Row(
        422, "folder_unreadable", "the folder to import cannot be read"
    ),
    storage_errors.StorageFailed: Row(507, "storage_failed", "the adapter could not be stored"),
    registry_errors.UnknownReference: Row(
        404, "model_not_found", "nothing is registered under the name; near ones are given"
    ),
    registry_errors.UnknownBase: Row(404, "base_not_found", "no base is known under the name"),
    PoolEmpty: Row(404, "pool_empty", "no adapter fits a job's pool"),
    NothingFound: Row(404, "nothing_found", "no adapter fits an `auto(…)`"),
    merge_errors.IncompatibleAdapters: Row(
        409, "incompatible_adapters", "members cannot be merged: which, and why"
    ),
    WrongBase: Row(409, "wrong_base", "what was named belongs to another base"),
    NotServable: Row(
        409, "not_servable", "a job's candidate cannot be served: a member was retired, say"
    ),
    search_errors.NoEmbedding: Row(409, "no_embedding", "a version has nothing to compare by"),
    registry_errors.VersionQuarantined: Row(
        409, "version_quarantined", "the version, or one that it was merged from, is unfit"
    ),
    sources_errors.HubAddressInvalid: Row(400, "invalid_hub_address", "no address on the Hub"),
    sources_errors.HubDenied: Row(403, "hub_denied", "the Hub keeps it from this server"),
    sources_errors.HubNotFound: Row(404, "hub_not_found", "the Hub has no such repository"),
    sources_errors.HubFailed: Row(502, "hub_failed", "the Hub did not answer as it should"),
    sources_errors.UploadInvalid: Row(400, "invalid_upload", "what was sent is no adapter's tar"),
    sources_errors.UploadTooLarge: Row(413, "upload_too_large", "more bytes than are taken"),
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
    storage_errors.DatabaseUnavailable: Row(
        503, "database_unavailable", "the database cannot be used", _RETRY_SECONDS
    ),
    EncoderUnavailable: Row(
        503, "encoder_unavailable", "the text encoder cannot be loaded", _RETRY_SECONDS
    ),
    StoreBroken: Row(503, "storage_broken", "the disk cannot be used", _RETRY_SECONDS),
    StoreFull: Row(507, "storage_full", "the disk is full"),
    # What is left of the registry's errors can only come from our own data.
    registry_errors.RegistryError: Row(500, "registry_error", "weft's own data is damaged"),
}
_INTERNAL = Row(500, "internal_error", "a fault of weft")
NO_SUCH_ROUTE = ("no_such_route", "there is no such path, or no such method of it")
_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
    404: "not_found_error",
}  # fmt: skip


def row_of(error: BaseException) -> Row:
    """Return the row of the nearest class of `error` that has one."""
    for kind in type(error).__mro__:
        if kind in ERRORS:
            return ERRORS[kind]
    return _INTERNAL


def row_and_message(error: BaseException) -> tuple[Row, str]:
    """Return the row of `error` and the sentence that a client may read; faults are logged."""
    row = row_of(error)
    if row is _INTERNAL:
        _log.exception("a request met a fault of ours", exc_info=error)
        return row, "a fault of the server; it is in its log"
    return row, str(error)


def headers_of(error: BaseException, row: Row) -> dict[str, str] | None:
    """Return Retry-After where trying again may help."""
    seconds = getattr(error, "retry_after_seconds", row.retry_after_seconds)
    return {"Retry-After": str(seconds)} if seconds is not None else None


def envelope(
    error: BaseException, param: str | None = "model"
) -> tuple[Row, dict[str, dict[str, object]]]:
    """Return the row of `error` and the OpenAI-shaped body that tells it.

    `param` is to blame for what a request got wrong, unless the error says what is.
    """
    row, message = row_and_message(error)
    kind = _TYPES.get(row.status, "server_error" if row.status >= 500 else "invalid_request_error")
    blamed = getattr(
        error, "param", param if row.status < 500 and row.status not in (401, 403) else None
    )
    return row, {"error": {"message": message, "type": kind, "param": blamed, "code": row.code}}


def error_response(error: BaseException, param: str | None = "model") -> JSONResponse:
    """Return the answer that tells `error` in OpenAI's shape; see `envelope`."""
    row, body = envelope(error, param)
    return JSONResponse(body, status_code=row.status, headers=headers_of(error, row))
