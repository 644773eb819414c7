"""Every error that a client can receive: its status, its code, and OpenAI's error object.

`ERRORS` is the table in REFERENCE.md (`make docs` writes it); a test proves that every
error class of the packages below has an entry. An exception without one is an internal error: 500.
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
from server.admin.receiving import TooManyUploads
from server.artifacts.build import BuildFailed, BuildQueueFull, TooManyBuilds
from server.artifacts.canary import CanaryFailed, CanaryUnanswered
from server.artifacts.leases import LeaseBusy
from server.artifacts.previews import PreviewTooLarge
from server.artifacts.provide import ArtifactGone
from server.artifacts.store import StoreBroken, StoreFull
from server.artifacts.worker import BuildTimeout, BuildTooLarge
from server.compose.composition import CompositionInvalid
from server.compose.expression import ExpressionInvalid
from server.compose.resolve import NotAnIngredient, RankTooLarge, WrongBase
from server.compose.retrieve import NothingFound, RetrievalInvalid
from server.embedders import EncoderUnavailable
from server.engine.protocol import (
    EngineBusy,
    EngineFailed,
    EngineLacksRoute,
    EngineRefused,
    EngineUnavailable,
)
from server.jobs.pools import PoolEmpty, PoolInvalid
from server.jobs.publish import NotServable
from server.limits import BodiesBusy, BodyTimeout, BodyTooLarge
from server.pools import PoolFull
from server.rates import RateLimited
from server.sites import CrossSiteRefused, HostRefused
from server.stopping import ServerStopping
from server.telemetry import record

_log = logging.getLogger("weft.server")


class RequestInvalid(ValueError):
    """The body or a parameter of a request is not what the route accepts."""

    def __init__(self, message: str, param: str | None = None) -> None:
        self.param = param
        super().__init__(message)


class MediaTypeInvalid(Exception):
    """The body is said to be something else than JSON."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"This route takes JSON, and the body's type is {kind!r:.80}. Send the header "
            "`Content-Type: application/json`."
        )


class KeyInvalid(Exception):
    """The API key is missing or wrong."""

    def __init__(self) -> None:
        super().__init__(
            "The API key is missing or wrong. Send a valid key in the header "
            "`Authorization: Bearer KEY`."
        )


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """How clients see one class of errors: status, code, meaning, and seconds until a retry."""

    status: int
    code: str
    meaning: str


ERRORS: dict[type[Exception], ErrorInfo] = {
    RequestInvalid: ErrorInfo(
        400, "invalid_request", "The request's body or a parameter is not what the route accepts."
    ),
    ExpressionInvalid: ErrorInfo(
        400, "invalid_expression", "`model` does not parse; a caret shows where."
    ),
    CompositionInvalid: ErrorInfo(
        400, "invalid_composition", "The `composition` object is malformed; `param` says where."
    ),
    NotAnIngredient: ErrorInfo(
        400,
        "not_an_ingredient",
        "A composition or an artifact is used as an ingredient; ingredients are adapters.",
    ),
    merge_errors.RecipeInvalid: ErrorInfo(
        400, "invalid_recipe", "A method, an option or the value of an option is unknown."
    ),
    registry_errors.ReferenceInvalid: ErrorInfo(
        400, "invalid_reference", "The reference is malformed: neither a name nor a digest."
    ),
    RetrievalInvalid: ErrorInfo(
        400, "invalid_retrieval", "The `auto(…)` expression cannot be carried out."
    ),
    OptionsInvalid: ErrorInfo(
        400, "invalid_options", "An option of a job is unknown, or its value is invalid."
    ),
    PoolInvalid: ErrorInfo(400, "invalid_pool", "The pool of a job is malformed."),
    search_errors.FilterInvalid: ErrorInfo(
        400, "invalid_filter", "The filter does not parse; a caret shows where."
    ),
    registry_errors.NameInvalid: ErrorInfo(400, "invalid_name", "The name is not valid."),
    registry_errors.AliasInvalid: ErrorInfo(400, "invalid_alias", "The alias is not valid."),
    registry_errors.DigestInvalid: ErrorInfo(400, "invalid_digest", "The digest is malformed."),
    search_errors.TagInvalid: ErrorInfo(400, "invalid_tag", "The tag is not valid."),
    storage_errors.ValueRefused: ErrorInfo(
        400, "invalid_value", "The text holds characters that a database cannot store."
    ),
    registry_errors.CursorInvalid: ErrorInfo(
        400, "invalid_cursor", "The cursor does not belong to this list."
    ),
    registry_errors.EvaluationInvalid: ErrorInfo(
        400, "invalid_evaluation", "The evaluation's number cannot be recorded."
    ),
    KeyInvalid: ErrorInfo(401, "invalid_api_key", "The API key is missing or wrong."),
    registry_errors.AccessDenied: ErrorInfo(
        403, "access_denied", "The key's role or namespace does not allow this."
    ),
    HostRefused: ErrorInfo(
        403, "host_refused", "The request names a host that the server does not answer for."
    ),
    CrossSiteRefused: ErrorInfo(
        403, "cross_site_refused", "A web page of another site called a server without keys."
    ),
    registry_errors.KeyScopeInvalid: ErrorInfo(
        400, "invalid_key_scope", "The role needs a namespace, or all of them."
    ),
    RateLimited: ErrorInfo(
        429, "rate_limit_exceeded", "The key has used up what it may use in a minute."
    ),
    MediaTypeInvalid: ErrorInfo(
        415, "unsupported_media_type", "The body is not `application/json`."
    ),
    registry_errors.UnknownKey: ErrorInfo(404, "key_not_found", "No key has this name."),
    job_errors.UnknownFile: ErrorInfo(404, "file_not_found", "No file has this id."),
    job_errors.UnknownJob: ErrorInfo(404, "job_not_found", "No job has this id."),
    job_errors.FileInUse: ErrorInfo(409, "file_in_use", "A job that has not ended uses the file."),
    job_errors.JobFinished: ErrorInfo(409, "job_finished", "The job has already ended."),
    job_errors.JobNotSucceeded: ErrorInfo(
        409, "job_not_succeeded", "The job has not succeeded, so it has no result."
    ),
    registry_errors.NameTaken: ErrorInfo(
        409, "name_taken", "The name is in use for something else."
    ),
    registry_errors.KeyNameTaken: ErrorInfo(
        409, "key_name_taken", "A key has this name, or had it."
    ),
    registry_errors.BaseConflict: ErrorInfo(
        409,
        "base_conflict",
        "The base is registered with other shapes, or its name means another base.",
    ),
    registry_errors.VersionInUse: ErrorInfo(
        409, "version_in_use", "Aliases or compositions use the version."
    ),
    EngineBusy: ErrorInfo(409, "artifact_busy", "Requests that the engine runs use the artifact."),
    LeaseBusy: ErrorInfo(409, "artifact_leased", "Requests in progress use the artifact."),
    registry_errors.AdmissionRefused: ErrorInfo(
        422, "admission_refused", "The adapter is refused; `findings` has the reasons."
    ),
    registry_errors.CheckEnded: ErrorInfo(
        422, "check_ended", "The check of the adapter took too long or too much memory."
    ),
    sources_errors.NothingToImport: ErrorInfo(422, "nothing_to_import", "The path has no adapter."),
    registry_errors.BaseConfigInvalid: ErrorInfo(
        422,
        "invalid_base_config",
        "The shapes of the base's modules cannot be read from its config.json.",
    ),
    storage_errors.FolderUnreadable: ErrorInfo(
        422, "folder_unreadable", "The folder to import cannot be read."
    ),
    storage_errors.StorageFailed: ErrorInfo(
        507, "storage_failed", "The adapter could not be stored."
    ),
    registry_errors.UnknownReference: ErrorInfo(
        404, "model_not_found", "Nothing is registered under the name; similar names are suggested."
    ),
    registry_errors.UnknownBase: ErrorInfo(
        404, "base_not_found", "No base is registered under the name."
    ),
    PoolEmpty: ErrorInfo(404, "pool_empty", "No adapter matches the pool of the job."),
    NothingFound: ErrorInfo(404, "nothing_found", "No adapter matches the `auto(…)` expression."),
    merge_errors.IncompatibleAdapters: ErrorInfo(
        409, "incompatible_adapters", "The ingredients cannot be merged with each other."
    ),
    WrongBase: ErrorInfo(
        409,
        "wrong_base",
        "The adapter or composition is for a base that this server does not serve.",
    ),
    NotServable: ErrorInfo(
        409,
        "not_servable",
        "The job's candidate cannot be served, for example because a member was retired.",
    ),
    search_errors.DescriptionBusy: ErrorInfo(
        503, "description_busy", "The tags or examples of the adapter are being changed by others."
    ),
    search_errors.NoEmbedding: ErrorInfo(
        409, "no_embedding", "The version has no embedding to compare by."
    ),
    registry_errors.CompositionDenied: ErrorInfo(
        403, "composition_denied", "A policy denies the merge of these ingredients."
    ),
    registry_errors.PolicyInvalid: ErrorInfo(400, "invalid_policy", "The policy is malformed."),
    registry_errors.UnknownPolicy: ErrorInfo(
        404, "policy_not_found", "There is no policy with the number."
    ),
    registry_errors.VersionQuarantined: ErrorInfo(
        409, "version_quarantined", "The version, or one that it was merged from, is quarantined."
    ),
    sources_errors.HubAddressInvalid: ErrorInfo(
        400, "invalid_hub_address", "The Hub address is malformed."
    ),
    sources_errors.HubDenied: ErrorInfo(
        403, "hub_denied", "The Hub denies this server access to the repository."
    ),
    sources_errors.HubOwnerRefused: ErrorInfo(
        403, "hub_owner_refused", "The server does not import from this owner on the Hub."
    ),
    sources_errors.HubNotFound: ErrorInfo(404, "hub_not_found", "The Hub has no such repository."),
    sources_errors.HubFailed: ErrorInfo(502, "hub_failed", "The Hub did not answer as expected."),
    sources_errors.UploadInvalid: ErrorInfo(
        400, "invalid_upload", "The body is not a tar of an adapter."
    ),
    sources_errors.UploadTooLarge: ErrorInfo(
        413, "upload_too_large", "The body is larger than the limit."
    ),
    BodyTooLarge: ErrorInfo(413, "body_too_large", "The body is larger than its route accepts."),
    BodyTimeout: ErrorInfo(408, "body_timeout", "The body did not arrive in time."),
    BodiesBusy: ErrorInfo(503, "server_busy", "The server has as many requests as it can take."),
    PoolFull: ErrorInfo(503, "server_busy", "The server has as many requests as it can take."),
    registry_errors.VersionRetired: ErrorInfo(410, "version_retired", "The version was retired."),
    ArtifactGone: ErrorInfo(
        410, "artifact_gone", "The files of a merged adapter are gone and cannot be built again."
    ),
    merge_errors.UnsafeResult: ErrorInfo(
        422, "unsafe_result", "The merged adapter would harm the engine."
    ),
    merge_errors.LimitExceeded: ErrorInfo(
        422, "merge_too_large", "The merge is larger than this server allows; the limit is named."
    ),
    BuildTimeout: ErrorInfo(
        422, "build_timeout", "The merge takes too long; it is not tried again for ten minutes."
    ),
    BuildTooLarge: ErrorInfo(
        422,
        "build_too_large",
        "The merge takes too much memory; it is not tried again for ten minutes.",
    ),
    PreviewTooLarge: ErrorInfo(
        422, "preview_too_large", "The ingredients take too long, or too much memory, to measure."
    ),
    RankTooLarge: ErrorInfo(
        422, "rank_too_large", "The adapter's rank is above the engine's limit."
    ),
    FormatError: ErrorInfo(
        422, "invalid_adapter", "The files of an ingredient are not a LoRA adapter."
    ),
    EngineRefused: ErrorInfo(
        422,
        "engine_refused",
        "The engine could not load the adapter; its reason is in the message.",
    ),
    TooManyUploads: ErrorInfo(
        429, "too_many_uploads", "The namespace, or the key, has too many uploads under way."
    ),
    TooManyBuilds: ErrorInfo(
        429, "too_many_merges", "Too many merges of the caller's namespace or key are waiting."
    ),
    BuildQueueFull: ErrorInfo(503, "merge_queue_full", "Too many merges are waiting."),
    CanaryFailed: ErrorInfo(
        422, "canary_failed", "The merge does not answer the server's canary as expected."
    ),
    CanaryUnanswered: ErrorInfo(
        503, "canary_unanswered", "The engine did not answer a prompt of the server's canary."
    ),
    BuildFailed: ErrorInfo(503, "build_failed", "A merge worker died."),
    EngineUnavailable: ErrorInfo(
        503, "engine_unavailable", "The engine is starting or restarting."
    ),
    EngineLacksRoute: ErrorInfo(
        501, "not_served", "The engine does not have this route for the model that it serves."
    ),
    EngineFailed: ErrorInfo(
        502, "engine_failed", "The engine failed on this request; it serves others."
    ),
    ServerStopping: ErrorInfo(503, "server_stopping", "The server is stopping."),
    storage_errors.BlobMissing: ErrorInfo(
        503, "files_missing", "The adapter's files are not in the store of this gateway."
    ),
    storage_errors.StoreUnavailable: ErrorInfo(
        503, "store_unavailable", "The object store cannot be reached or refuses the request."
    ),
    storage_errors.DatabaseUnavailable: ErrorInfo(
        503, "database_unavailable", "The database cannot be reached."
    ),
    storage_errors.StatementTimeout: ErrorInfo(
        422, "statement_timeout", "The database needed too long for one statement."
    ),
    EncoderUnavailable: ErrorInfo(503, "encoder_unavailable", "The text encoder cannot be loaded."),
    StoreBroken: ErrorInfo(503, "storage_broken", "The disk cannot be read or written."),
    StoreFull: ErrorInfo(507, "storage_full", "The disk is full."),
    # The remaining errors of the registry can only come from its own data.
    registry_errors.RegistryError: ErrorInfo(
        500, "registry_error", "Data in the registry is damaged."
    ),
}
INTERNAL = ErrorInfo(500, "internal_error", "An internal error occurred; the server's log has it.")
NO_SUCH_ROUTE = ErrorInfo(
    404, "no_such_route", "The path does not exist, or (405) does not support the method."
)
_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
    404: "not_found_error", 429: "rate_limit_error",
}  # fmt: skip


def info_of(error: BaseException) -> ErrorInfo:
    """Return the entry of `ERRORS` for the nearest class of `error` that has one."""
    for kind in type(error).__mro__:
        if kind in ERRORS:
            return ERRORS[kind]
    return INTERNAL


def info_and_message(error: BaseException) -> tuple[ErrorInfo, str]:
    """Return the entry of `error` and the message for the client; internal errors are logged."""
    info = info_of(error)
    record.note(error=info.code)
    if info is INTERNAL:
        _log.exception("A request failed with an internal error", exc_info=error)
        return info, info.meaning
    return info, str(error)


def headers_of(error: BaseException) -> dict[str, str] | None:
    """Return Retry-After for an error with `retry_after_seconds`, and the error's own headers."""
    seconds = getattr(error, "retry_after_seconds", None)
    headers = {} if seconds is None else {"Retry-After": str(seconds)}
    return {**headers, **getattr(error, "headers", {})} or None


def envelope(
    error: BaseException, param: str | None = "model"
) -> tuple[ErrorInfo, dict[str, dict[str, object]]]:
    """Return the entry of `error` and OpenAI's error object for it.

    `param` names the parameter at fault, unless the error itself names one.
    """
    info, message = info_and_message(error)
    kind = _TYPES.get(
        info.status, "server_error" if info.status >= 500 else "invalid_request_error"
    )
    blamed = getattr(
        error, "param", param if info.status < 500 and info.status not in (401, 403) else None
    )
    return info, {"error": {"message": message, "type": kind, "param": blamed, "code": info.code}}


def error_response(error: BaseException, param: str | None = "model") -> JSONResponse:
    """Return the response with OpenAI's error object; see `envelope`."""
    info, body = envelope(error, param)
    return JSONResponse(body, status_code=info.status, headers=headers_of(error))
