"""The requests of the last minutes by timing, and the errors among them."""

from collections.abc import Callable

from server.console.api.engines import Request, Requests
from server.console.pages.engine.timings import (
    ErrorCount,
    error_counts,
    first_ms,
    stage_ms,
    timing_options,
)
from server.console.parts.chart import Chart
from server.console.parts.table import Column, Table, Value
from server.console.parts.text import tagged
from server.console.parts.units import moment


def _stage(name: str) -> Callable[[Request], Value]:
    return lambda request: stage_ms(request, name)


_REQUESTS = [
    Column[Request]("Ended", lambda request: moment(request.at)),
    Column[Request]("Model", lambda request: request.model),
    Column[Request]("Kind", lambda request: request.kind),
    Column[Request]("Key", lambda request: request.key),
    Column[Request]("Status", lambda request: request.status or "left"),
    Column[Request]("Resolve, ms", _stage("resolve")),
    Column[Request]("Merge, ms", _stage("merge")),
    Column[Request]("Load, ms", _stage("load")),
    Column[Request]("First token, ms", first_ms),
    Column[Request]("Total, ms", lambda request: 1000 * request.seconds),
    Column[Request]("Prompt tokens", lambda request: request.prompt_tokens),
    Column[Request]("Tokens", lambda request: request.completion_tokens),
    Column[Request]("Error", lambda request: request.error),
    Column[Request]("Request", lambda request: request.id),
]
_ERRORS = [
    Column[ErrorCount]("Error", lambda error: error.error),
    Column[ErrorCount]("Requests", lambda error: error.count),
    Column[ErrorCount]("Last", lambda error: moment(error.last)),
]


class RecentRequests:
    """The requests of the last minutes in elements that are drawn once."""

    def __init__(self, answer: Requests) -> None:
        self._none = tagged(
            "p", "No request has ended since the server started. Chat with a model to see one here."
        )
        self._chart = Chart(
            "The newest requests by timing", timing_options(()), _REQUESTS, (), height="24rem"
        )
        self._errors = Table("Errors among them", _ERRORS, ())
        self.show(answer)

    def show(self, answer: Requests) -> None:
        """Show requests."""
        self._none.set_visibility(not answer.items)
        self._chart.show(timing_options(answer.items), answer.items)
        self._errors.show(error_counts(answer.items), stay=True)
