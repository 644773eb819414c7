"""The one exception of the console's client: what the API said, or that it said nothing."""

from typing import Any, Self

import httpx

UNAUTHORIZED = 401


class Refused(Exception):
    """A request failed; the message is the API's own.

    `status` is None when no answer came: the server is down, slow, or not a weft.
    """

    def __init__(self, message: str, *, status: int | None = None, code: str = "") -> None:
        self.status, self.code = status, code
        super().__init__(message)

    @property
    def unanswered(self) -> bool:
        """Whether no answer came, so that the same request may succeed later."""
        return self.status is None

    @classmethod
    def by_answer(cls, answer: httpx.Response) -> Self:
        """Return the refusal of a problem document or of OpenAI's error object."""
        try:
            body: Any = answer.json()
            problem = body.get("error", body)
            message = problem["message"] if "message" in problem else problem["detail"]
            code = problem.get("code")
        except (ValueError, KeyError, TypeError, AttributeError):
            message, code = f"The server answered {answer.status_code}: {answer.text[:200]}", None
        return cls(str(message), status=answer.status_code, code=str(code or ""))

    @classmethod
    def by_silence(cls, server: object, error: httpx.HTTPError) -> Self:
        """Return the refusal of a server that does not answer."""
        reason = str(error) or type(error).__name__
        return cls(f"No answer from {server}: {reason}. Check that the server runs, then retry.")
