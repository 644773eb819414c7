"""Errors as problem documents (RFC 9457) on /registry, and as OpenAI's error object elsewhere.

A problem has `type` (a URN that ends in the code), `title` (the meaning of the code), `status`,
`detail` (the message), `instance` (the path), `code`, and members for programs: similar names,
positions, the parameter at fault, findings of admission, users of a version.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from registry import errors as registry_errors
from registry.search import errors as search_errors
from server.errors import (
    ERRORS,
    NO_SUCH_ROUTE,
    ErrorInfo,
    RequestInvalid,
    error_response,
    headers_of,
    info_and_message,
)
from server.inference import LORAX_PATHS
from server.lorax.errors import lorax_error
from server.telemetry import record

PREFIX = "/registry"
MEDIA_TYPE = "application/problem+json"
_WITHOUT_MODEL = ("/v1/files", "/v1/fine_tuning")  # `model` is not the parameter at fault there
_EXTRAS: Mapping[type[Exception], Callable[[Any], Mapping[str, Any]]] = {
    registry_errors.UnknownReference: lambda e: {"near": e.near},
    registry_errors.UnknownBase: lambda e: {"known": e.known},
    registry_errors.ReferenceInvalid: lambda e: {"position": e.position, "expected": e.expected},
    search_errors.FilterInvalid: lambda e: {"position": e.position, "expected": e.expected},
    registry_errors.VersionInUse: lambda e: {
        "aliases": e.aliases,
        "compositions": e.compositions,
    },
    registry_errors.CompositionDenied: lambda e: {
        "policy": e.policy,
        "ingredients": e.ingredients,
    },
    registry_errors.VersionQuarantined: lambda e: {"reason": e.reason},
    registry_errors.AdmissionRefused: lambda e: {"findings": e.report.to_json()["findings"]},
}


def error_answer(path: str, error: Exception) -> Response:
    """Return the response for `error` in the format of the path."""
    if path in LORAX_PATHS:
        return lorax_error(error)
    if not path.startswith(f"{PREFIX}/"):
        return error_response(error, None if path.startswith(_WITHOUT_MODEL) else "model")
    info, message = info_and_message(error)
    extras = next((make(error) for kind, make in _EXTRAS.items() if isinstance(error, kind)), {})
    if (place := getattr(error, "param", None)) is not None:
        extras = {**extras, "param": place}
    return _problem(path, info, message, headers_of(error), **extras)


def handle_errors(app: FastAPI) -> None:
    """Answer every error of `app` in the format of its path."""

    async def domain(request: Request, error: Exception) -> Response:
        return error_answer(request.url.path, error)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        places = [(".".join(map(str, e["loc"])), str(e["msg"])) for e in error.errors()]
        message = "; ".join(f"{place}: {reason}" for place, reason in places)
        return error_answer(request.url.path, RequestInvalid(message))

    async def http(request: Request, error: Exception) -> Response:
        """Answer the framework's own refusals: an unknown path or method."""
        assert isinstance(error, HTTPException)
        path, info = request.url.path, replace(NO_SUCH_ROUTE, status=error.status_code)
        record.note(error=info.code)
        if path.startswith(f"{PREFIX}/"):
            return _problem(path, info, error.detail, error.headers)
        body = {"message": error.detail, "type": "invalid_request_error", "param": None,
                "code": info.code}  # fmt: skip
        return JSONResponse({"error": body}, status_code=error.status_code, headers=error.headers)

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    # Class by class: Starlette raises again what only the handler of Exception answers.
    for kind in (*ERRORS, Exception):
        app.add_exception_handler(kind, domain)


def _problem(
    path: str, info: ErrorInfo, message: str, headers: Mapping[str, str] | None, **extras: Any
) -> JSONResponse:
    body = {
        "type": f"urn:weft:problem:{info.code}", "title": info.meaning, "status": info.status,
        "detail": message, "instance": path, "code": info.code, **extras,
    }  # fmt: skip
    return JSONResponse(body, info.status, headers, media_type=MEDIA_TYPE)
