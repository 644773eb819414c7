"""Errors as problem documents (RFC 9457) on /registry, as OpenAI's envelope everywhere else.

A problem has `type` (a URN that ends in the code), `title` (what the code means), `status`,
`detail` (the sentence), `instance` (the path), `code`, and what a program can use: near names,
positions, findings of admission, who uses what.
"""

from collections.abc import Callable, Mapping
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
    RequestInvalid,
    Row,
    error_response,
    headers_of,
    row_and_message,
)

PREFIX = "/registry"
MEDIA_TYPE = "application/problem+json"
_WITHOUT_MODEL = ("/v1/files", "/v1/fine_tuning")  # what is wrong there is not the model
_EXTRAS: Mapping[type[Exception], Callable[[Any], Mapping[str, Any]]] = {
    registry_errors.UnknownReference: lambda e: {"near": e.near},
    registry_errors.UnknownBase: lambda e: {"known": e.known},
    registry_errors.ReferenceInvalid: lambda e: {"position": e.position, "expected": e.expected},
    search_errors.FilterInvalid: lambda e: {"position": e.position, "expected": e.expected},
    registry_errors.VersionInUse: lambda e: {
        "aliases": e.aliases,
        "compositions": e.compositions,
        "hidden": e.hidden,
    },
    registry_errors.VersionQuarantined: lambda e: {"reason": e.reason},
    registry_errors.AdmissionRefused: lambda e: {"findings": e.report.to_json()["findings"]},
}


def error_answer(path: str, error: Exception) -> Response:
    """Return the answer that tells `error` in the shape that this path has."""
    if not path.startswith(f"{PREFIX}/"):
        return error_response(error, None if path.startswith(_WITHOUT_MODEL) else "model")
    row, message = row_and_message(error)
    extras = next((make(error) for kind, make in _EXTRAS.items() if isinstance(error, kind)), {})
    return _problem(path, row, message, headers_of(error, row), **extras)


def handle_errors(app: FastAPI) -> None:
    """Have every error of `app` told in the shape of its path."""

    async def domain(request: Request, error: Exception) -> Response:
        return error_answer(request.url.path, error)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        said = [(".".join(map(str, e["loc"])), str(e["msg"])) for e in error.errors()]
        message = "; ".join(f"{where}: {what}" for where, what in said)
        return error_answer(request.url.path, RequestInvalid(message))

    async def http(request: Request, error: Exception) -> Response:
        """Tell what the framework refused: a path or a method that is not there."""
        assert isinstance(error, HTTPException)
        path, row = request.url.path, Row(error.status_code, *NO_SUCH_ROUTE)
        if path.startswith(f"{PREFIX}/"):
            return _problem(path, row, error.detail, error.headers)
        body = {"message": error.detail, "type": "invalid_request_error", "param": None,
                "code": row.code}  # fmt: skip
        return JSONResponse({"error": body}, status_code=error.status_code, headers=error.headers)

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    # Class by class: what only the handler of Exception answers, Starlette raises once more.
    for kind in (*ERRORS, Exception):
        app.add_exception_handler(kind, domain)


def _problem(
    path: str, row: Row, message: str, headers: Mapping[str, str] | None, **extras: Any
) -> JSONResponse:
    body = {
        "type": f"urn:weft:problem:{row.code}", "title": row.meaning, "status": row.status,
        "detail": message, "instance": path, "code": row.code, **extras,
    }  # fmt: skip
    return JSONResponse(body, row.status, headers, media_type=MEDIA_TYPE)
