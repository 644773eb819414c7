"""Log lines: one per event, as text or as JSON, with the request that they belong to.

A line is never wrapped, and nothing that a client sends can begin a new one.
"""

import logging
import sys
import time
from typing import Any, Literal, TypeAlias

from pythonjsonlogger.json import JsonFormatter

from server.telemetry import record

Format: TypeAlias = Literal["text", "json"]
ACCESS = "weft.access"
# Names in a JSON line -> attributes of a log record.
_RENAMED = {"levelname": "level", "name": "logger"}


def set_up_logging(log_format: Format, handler: logging.Handler | None = None) -> None:
    """Log to stderr: warnings of libraries, and weft's own messages.

    Args:
        log_format: how lines are written.
        handler: writes them instead of a plain stream; only the command line has one.
    """
    if log_format == "json" or handler is None:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Flat() if log_format == "json" else TextFormatter())
    handler.addFilter(_add_request)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    logging.getLogger("weft").setLevel(logging.INFO)


class TextFormatter(logging.Formatter):
    """`TIME LEVEL LOGGER MESSAGE name=value …`, in UTC."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"
    layout = "%(asctime)s %(levelname)s %(name)s %(message)s"

    def __init__(self) -> None:
        super().__init__(self.layout)
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line, without control characters, and the fields of the record."""
        fields = getattr(record, "fields", {})
        pairs = "".join(f" {name}={_quoted(value)}" for name, value in fields.items())
        return printable(super().formatMessage(record)) + pairs


class TerminalFormatter(TextFormatter):
    """The message and its fields; Rich adds time and level."""

    layout = "%(message)s"


def printable(text: str) -> str:
    """Return `text` with everything escaped that could end a line or move a cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _quoted(value: object) -> str:
    text = printable(str(value))
    return f'"{text}"' if " " in text or not text else text


class _Flat(JsonFormatter):
    """One JSON object for a line; the fields of the request are members like the others."""

    def __init__(self) -> None:
        super().__init__(
            "%(levelname)s %(name)s %(message)s", rename_fields=_RENAMED, timestamp="time",
            json_ensure_ascii=True,
        )  # fmt: skip

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Return the members of the line."""
        fields = log_data.pop("fields", {})
        return {**log_data, **fields}


def _add_request(line: logging.LogRecord) -> bool:
    """Put the fields of the request into a record, beside those that its call gave."""
    request = record.current()
    fields = {**getattr(line, "fields", {}), **(request.fields() if request else {})}
    line.fields = fields
    return True
