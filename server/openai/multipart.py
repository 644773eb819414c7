"""Uploads as multipart/form-data, streamed to disk without holding the file in memory.

Covered: one file and short fields. Not covered: what the fields mean (`files`).
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from registry.sources.errors import UploadTooLarge
from server.errors import RequestInvalid
from server.jobs.storage import Incoming
from server.pools import Pool

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_FILE = "file"
_MOST_FIELDS = 20
_FIELD_BYTES = 1000


@dataclass(slots=True)
class Form:
    """The text fields of a form, and the name of its file; None if no file was sent."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None


async def receive(request: Request, incoming: Incoming, pool: Pool, *, limit_bytes: int) -> Form:
    """Write the request's file into `incoming` and return the rest of the form.

    Raises:
        RequestInvalid: not a form, no file or several, or the upload was interrupted.
        UploadTooLarge: the file has more than `limit_bytes`.
        OSError: the disk is full or gone.
    """
    parts = _Parts(limit_bytes)
    try:
        parser = MultipartParser(_boundary(request), parts.callbacks())
        async for chunk in request.stream():
            parser.write(chunk)
            if data := parts.take():
                await pool.run(incoming.write, data)
        parser.finalize()
    except FormParserError as error:
        raise RequestInvalid(f"The body is not a multipart form: {error}.") from error
    except ClientDisconnect as error:
        raise RequestInvalid("The upload was interrupted; send it again.") from error
    if not parts.ended:
        raise RequestInvalid("The body ends before the form is complete.")
    if parts.form.filename is None:
        raise RequestInvalid("Send the file, with a file name, in the field `file`.", _FILE)
    return parts.form


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise RequestInvalid("The body must be multipart/form-data.")
    return boundary


class _Parts:
    """Callbacks of the parser; file bytes wait until `take` returns them."""

    def __init__(self, limit_bytes: int) -> None:
        self.form = Form()
        self.ended = False
        self._limit, self._size = limit_bytes, 0
        self._header, self._value = b"", b""
        self._disposition = b""
        self._name = ""
        self._text: bytearray | None = None  # None while the current part is the file
        self._data: list[bytes] = []

    def callbacks(self) -> "MultipartCallbacks":
        """Return the callbacks of the parser."""
        return {
            "on_header_field": self._add_to_header, "on_header_value": self._add_to_value,
            "on_header_end": self._end_header, "on_headers_finished": self._begin_part,
            "on_part_data": self._add, "on_part_end": self._end_part, "on_end": self._end,
        }  # fmt: skip

    def take(self) -> bytes:
        """Return the bytes of the file that arrived since the last call."""
        data, self._data = b"".join(self._data), []
        return data

    def _add_to_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _begin_part(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._disposition = b""
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._text = bytearray()
        if b"filename" in options:
            if self._name != _FILE or self.form.filename is not None:
                raise RequestInvalid(
                    "Send exactly one file, in the field `file`.", self._name or None
                )
            self.form.filename = options[b"filename"].decode("utf-8", "replace")
            self._text = None

    def _add(self, data: bytes, start: int, end: int) -> None:
        if self._text is not None:
            self._text += data[start:end]
            if len(self._text) > _FIELD_BYTES:
                raise RequestInvalid(f"The field is longer than {_FIELD_BYTES} bytes.", self._name)
            return
        self._size += end - start
        if self._size > self._limit:
            raise UploadTooLarge(self._limit)
        self._data.append(data[start:end])

    def _end_part(self) -> None:
        if self._text is not None:
            self.form.fields[self._name] = self._text.decode("utf-8", "replace")
            if len(self.form.fields) > _MOST_FIELDS:
                raise RequestInvalid(f"The form has more than {_MOST_FIELDS} fields.")

    def _end(self) -> None:
        self.ended = True
