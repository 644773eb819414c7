"""Errors as LoRAX's clients read them: `error`, a text, and `error_type`, by which they raise."""

from typing import Any

from starlette.responses import JSONResponse

from server.errors import headers_of, info_and_message

_TYPES = {400: "validation", 409: "validation", 410: "validation", 422: "validation",
          429: "overloaded", 503: "overloaded"}  # fmt: skip
_OTHER = "generation"


def error_body(status: int, message: str, code: str) -> dict[str, Any]:
    """Return the body of an error. The clients have classes of their own for 401, 403 and 404."""
    body = {"error": message, "code": code}
    return body if status in (401, 403, 404) else body | {"error_type": _TYPES.get(status, _OTHER)}


def lorax_error(error: BaseException) -> JSONResponse:
    """Return the response for `error`."""
    info, message = info_and_message(error)
    body = error_body(info.status, message, info.code)
    return JSONResponse(body, info.status, headers_of(error))
