"""Limits on the bodies of requests: bytes of one body, bytes of all bodies, values of a document.

Not covered: uploads, which have limits of their own (`openai.files`, `admin.imports`).
"""


class BodyTooLarge(Exception):
    """The body is larger than its route accepts."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"The body is larger than the {limit_bytes} bytes that this route accepts. "
            "Send less, or raise WEFT_CHAT_MAX_BYTES or WEFT_JSON_MAX_BYTES."
        )


class BodiesBusy(Exception):
    """The bodies of all running requests together reach the limit."""

    retry_after_seconds = 1

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"The server is busy: requests with {limit_bytes} bytes of bodies are running. "
            f"Send the request again in {self.retry_after_seconds} s."
        )


class BodyTimeout(Exception):
    """The body did not arrive in time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The body did not arrive within {seconds:g} s. Send it again, faster.")


class BodyBudget:
    """Counts the bytes of the bodies that running requests hold. Use it on one event loop."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self.bytes = 0

    def take(self, nbytes: int) -> None:
        """Count `nbytes` more.

        Raises:
            BodiesBusy: they do not fit.
        """
        if self.bytes + nbytes > self._limit:
            raise BodiesBusy(self._limit)
        self.bytes += nbytes

    def give(self, nbytes: int) -> None:
        """Count `nbytes` less."""
        self.bytes -= nbytes
