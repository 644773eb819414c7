"""The table of errors: a row for every class that a request can meet, and the envelope's shape."""

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

import pytest

import merge.errors
import registry.errors
import registry.jobs.errors
import registry.search.errors
import registry.sources.errors
import registry.storage.errors
import server
from merge.peft_format import FormatError, Problem
from server.cli.console import EXPECTED
from server.engine.protocol import EngineUnavailable
from server.errors import (
    ERRORS,
    ErrorInfo,
    KeyInvalid,
    RequestInvalid,
    envelope,
    error_response,
    info_of,
)
from server.rates import RateLimited

# Why no request can meet these. Whoever adds an error decides between a row and a line here.
NOT_FOR_CLIENTS = {
    "MethodDefinitionError": "raised when the programme is loaded",
    "EngineStartFailed": "ends the start",
    "SelfTestFailed": "ends the start",
    "EngineLost": "has Ray replace an engine",
    "NodeUnavailable": "stays inside vLLM, which answers 503",
    "NotFetched": "stays inside vLLM, which answers 422",
    "NodeUnusable": "ends `weft node`",
    "KeysMissing": "ends the start on Ray",
    "ClusterError": "ends `weft cluster`",
    "ServeConfigInvalid": "is for those who write a cluster's file",
    "BaseUnreadable": "ends the start",
    "BasesAlike": "ends the start",
    "EngineUnfit": "becomes EngineStartFailed",
    "HomeInUse": "ends the start",
    "ModelUnusable": "ends the start",
    "PortTaken": "ends the start",
    "OpenToOthers": "ends the start",
    "TracingUnavailable": "ends the start",
    "CanaryFileInvalid": "ends the start",
    "ConfigInvalid": "ends every command that reads settings",
    "PatternInvalid": "becomes OptionsInvalid or CanaryFileInvalid",
    "DemoAssetsMissing": "ends `weft demo`",
    "DemoBaseUnavailable": "ends `weft demo`",
    "WorkerDied": "becomes BuildFailed, after another try",
    "WorkerHangs": "becomes BuildTimeout",
    "ProcessDied": "becomes BuildFailed, after another try",
    "AdapterRejected": "stays inside vLLM, which answers 422",
    "ConversionFailed": "ends `weft convert`",
    "ProbeFailed": "ends `weft adapters probe`",
    "ServerRefused": "ends a command that asked a server",
    "Refused": "is what a server says, on a page of the console",
    "DraftInvalid": "is said on a page of the console",
    "OptionNotReadable": "is said on a page of the console",
    "PromptsInvalid": "is said on a page of the console",
    "DatasetInvalid": "ends a job, or `weft adapt`",
    "JobFailed": "ends a job",
    "ChildDied": "starts a job's process again, or ends the job",
    "ChildFailed": "becomes the error of what the child was for",
    "ChildTimeout": "becomes the error of what the child was for",
    "ScoringFailed": "is told in a job's report",
}
NOT_IMPORTED = ("server.engine.plugin", "server.cli.__main__")  # one imports vLLM, one runs


def modules() -> Iterator[ModuleType]:
    """Yield every module whose errors a request may meet."""
    yield from (merge.errors, registry.errors, registry.jobs.errors)
    yield from (registry.search.errors, registry.sources.errors, registry.storage.errors)
    for found in pkgutil.walk_packages(server.__path__, "server."):
        if found.name not in NOT_IMPORTED:
            yield import_module(found.name)


def leaves() -> list[type[Exception]]:
    """Return every exception class of these modules that no other is derived from."""
    own = {
        cls
        for module in modules()
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, Exception)
        and cls.__module__.split(".")[0] in ("merge", "registry", "server")
    }
    return sorted((cls for cls in own if not cls.__subclasses__()), key=lambda cls: cls.__name__)


@pytest.mark.parametrize("kind", leaves(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_row_or_a_reason(kind: type[Exception]) -> None:
    """A class without a row would reach clients as a bare 500."""
    has_row = any(base in ERRORS for base in kind.__mro__)
    assert has_row != (kind.__name__ in NOT_FOR_CLIENTS)


def test_every_reason_is_for_a_class_that_exists() -> None:
    """The list of exceptions names only existing classes."""
    assert set(NOT_FOR_CLIENTS) <= {kind.__name__ for kind in leaves()}


def _may_be_retried(kind: type[Exception]) -> bool:
    return kind in (EngineUnavailable, RateLimited) or hasattr(kind, "retry_after_seconds")


def test_the_rows_make_sense() -> None:
    """Codes are snake_case, statuses are errors, and only temporary errors have a delay."""
    for kind, row in ERRORS.items():
        assert row.code.replace("_", "").isalpha()
        assert row.code == row.code.lower()
        assert 400 <= row.status < 600
        assert (row.status in (429, 503)) == _may_be_retried(kind), kind


def test_a_row_is_found_by_the_nearest_class() -> None:
    """A subclass without a row uses its parent's row."""

    class Special(FormatError):
        pass

    assert ERRORS[FormatError] == info_of(Special([Problem("A001 x", "f", "e", "g")]))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, "invalid_request_error"), (401, "authentication_error"), (404, "not_found_error"),
        (409, "invalid_request_error"), (410, "invalid_request_error"),
        (422, "invalid_request_error"), (503, "server_error"), (507, "server_error"),
    ],
)  # fmt: skip
def test_the_envelope_is_openai_s(
    status: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """message, type, param and code, in an object called error."""

    class Odd(Exception):
        pass

    monkeypatch.setitem(ERRORS, Odd, ErrorInfo(status, "odd", "something odd"))
    row, body = envelope(Odd("what happened"))
    error = body["error"]
    assert ["error"] == list(body)
    assert (status, "what happened", expected, "odd") == (
        row.status, error["message"], error["type"], error["code"],
    )  # fmt: skip
    assert error["param"] == ("model" if status < 500 and status != 401 else None)


def test_an_error_may_name_its_parameter() -> None:
    """A bad request names the field at fault, if there is one."""
    assert envelope(RequestInvalid("no", "n"))[1]["error"]["param"] == "n"
    assert envelope(RequestInvalid("no"))[1]["error"]["param"] is None


def test_a_fault_of_ours_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error is 500 and in the log with its traceback; the client learns no
    details.
    """
    row, body = envelope(KeyError("secret"))
    assert (500, "internal_error") == (row.status, body["error"]["code"])
    assert "secret" not in str(body)
    assert "KeyError: 'secret'" in caplog.text


def test_retry_after_is_what_the_error_says() -> None:
    """Retry-After is the error's `retry_after_seconds`; an error without it has no such header."""
    own = error_response(EngineUnavailable("restarting", retry_after_seconds=42))
    timeout = error_response(registry.storage.errors.DatabaseUnavailable("locked"))
    assert ("42", "5") == (own.headers["retry-after"], timeout.headers["retry-after"])
    assert "retry-after" not in error_response(KeyInvalid()).headers


def test_errors_that_commands_expect_are_named_where_they_are_defined() -> None:
    """A command that ends with an expected error prints its message and no traceback."""
    kinds = {name: pkgutil.resolve_name(name) for name in EXPECTED}

    assert kinds.keys() == {f"{kind.__module__}.{kind.__qualname__}" for kind in kinds.values()}
