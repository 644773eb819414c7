"""The admin API for the command line: of a server, or of the registry at home (`at_home`)."""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self
from urllib.parse import quote

import httpx
import typer

from registry.paging import MAX_PAGE
from server.sse import parse

if TYPE_CHECKING:
    from server.settings import Settings

Home = Annotated[Path | None, typer.Option(help="Folder of the registry (WEFT_HOME).")]
Server = Annotated[
    str | None,
    typer.Option(envvar="WEFT_SERVER", help="URL of a server; default: the registry at home."),
]
Key = Annotated[
    str | None, typer.Option(envvar="WEFT_KEY", help="The server's API key.", show_envvar=True)
]
_ADMIN_API, _FILES_API = "/registry", "/v1/files"
_CONNECT_SECONDS = 10.0
_MAX_FAILURES = 5  # of a stream, in a row
_RETRY_SECONDS = 1.0


class ServerRefused(OSError):
    """The server refused a request or did not answer; the message is the server's own."""

    def __init__(self, message: str, status: int | None = None) -> None:
        self.status = status  # of HTTP; None without an answer, and at home
        super().__init__(message)


class Client:
    """The routes below /registry, and /v1/files. Use it in a `with` block."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def ask(
        self,
        method: str,
        *path: str | int,
        json: object = None,
        content: Iterator[bytes] | None = None,
        query: Mapping[str, str | int | list[str] | None] | None = None,
    ) -> Any:
        """Send one request and return the JSON of its answer; None for an answer without a body.

        Raises:
            ServerRefused: with the server's message.
        """
        params = {name: value for name, value in (query or {}).items() if value is not None}
        headers = {} if content is None else {"content-type": "application/x-tar"}
        return self._send(
            method, _url(path), json=json, content=content, params=params, headers=headers
        )

    @contextmanager
    def download(self, *path: str | int) -> Iterator[httpx.Response]:
        """Give the answer to a GET whose body is read as it comes.

        Raises:
            ServerRefused: with the server's message, or when it stops in the middle.
        """
        try:
            with self._http.stream("GET", _url(path)) as answer:
                if not answer.is_success:
                    answer.read()
                    raise ServerRefused(_message_of(answer), answer.status_code)
                yield answer
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def upload(self, path: Path) -> str:
        """Upload a file of examples and return its id.

        Raises:
            ServerRefused: as `ask`.
            OSError: the file cannot be read.
        """
        with path.open("rb") as file:
            files, form = {"file": (path.name, file)}, {"purpose": "fine-tune"}
            return str(self._send("POST", _FILES_API, files=files, data=form)["id"])

    def remove_upload(self, file: str) -> None:
        """Remove an uploaded file. Raises ServerRefused: as `ask`."""
        self._send("DELETE", f"{_FILES_API}/{file}")

    def text(self, path: str) -> httpx.Response:
        """Return the answer to `GET path`, whatever its status.

        Raises:
            ServerRefused: the server does not answer.
        """
        try:
            return self._http.get(path)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _send(self, method: str, url: str, **request: Any) -> Any:
        try:
            answer = self._http.request(method, url, **request)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if answer.is_success:
            return answer.json() if answer.content else None
        raise ServerRefused(_message_of(answer), answer.status_code)

    def events(self, *path: str | int) -> Iterator[dict[str, Any]]:
        """Yield the events of a stream to its end; an interrupted stream is resumed.

        The last event's `kind` is "end". Servers only: at home, an answer arrives as a whole.

        Raises:
            ServerRefused: with the server's message, or when it stops answering.
        """
        url, seen, failures = _url(path), None, 0
        while True:
            try:
                with self._http.stream(
                    "GET", url, params={"after": seen} if seen else {}
                ) as answer:
                    if not answer.is_success:
                        answer.read()
                        raise ServerRefused(_message_of(answer), answer.status_code)
                    for event in parse(answer.iter_lines()):
                        document = {**json.loads(event.data), "kind": event.kind}
                        seen, failures = document.get("id", seen), 0
                        yield document
                        if event.kind == "end":
                            return
            except httpx.HTTPError as error:
                failures += 1
                if failures > _MAX_FAILURES:
                    raise self._unreachable(error) from error
            time.sleep(_RETRY_SECONDS)

    def pages(
        self, *path: str | int, query: Mapping[str, str | int | None] | None = None
    ) -> Iterator[Any]:
        """Yield the items of a list, page by page."""
        cursor = None
        while True:
            asked = {**(query or {}), "limit": MAX_PAGE, "cursor": cursor}
            page = self.ask("GET", *path, query=asked)
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _unreachable(self, error: Exception) -> ServerRefused:
        return ServerRefused(f"no answer from {self._http.base_url}: {error}")


def connect(
    home: Path | None, server: str | None, key: str | None, *, with_base: bool = False
) -> Client:
    """Return the API of a server, or of the registry at home.

    `with_base`: at home, register the served base first, as expressions need it.
    """
    if server is None:
        from server.cli.at_home import client_of, gateway_at_home  # here: FastAPI and SQLAlchemy

        return client_of(gateway_at_home(settings_of(home), with_base=with_base))
    if _other_variables():
        settings_of(home)  # which refuses a misspelt one
    headers = {"authorization": f"Bearer {key}"} if key else {}
    timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)  # merges and imports take long
    return Client(httpx.Client(base_url=server, headers=headers, timeout=timeout))


def settings_of(home: Path | None) -> "Settings":
    """Return the settings of a command on the registry at home."""
    from server.settings import Settings

    return Settings() if home is None else Settings(home=home)


def tar_of(folder: Path) -> Iterator[bytes]:
    """Yield a plain tar of an adapter's files.

    Raises:
        OSError: a file cannot be read.
    """
    from registry.sources.upload import FILES
    from server.export.tar import Member, tar

    with ExitStack() as files:
        members = [
            Member(name, path.stat().st_size, files.enter_context(path.open("rb")))
            for name in FILES
            if (path := folder / name).is_file()  # admission reports a missing file
        ]
        yield from tar(members)


def _other_variables() -> bool:
    names = {name for name in os.environ if name.startswith("WEFT_")}
    return bool(names - {"WEFT_SERVER", "WEFT_KEY", "WEFT_HOME"})


def _url(path: Iterable[str | int]) -> str:
    return "/".join((_ADMIN_API, *(quote(str(part), safe="/") for part in path)))


def _message_of(answer: httpx.Response) -> str:
    """Return the message of a problem document, of OpenAI's envelope or of FastAPI's own answer."""
    try:
        body = answer.json()
        detail = body["error"]["message"] if "error" in body else body["detail"]
        if isinstance(detail, list):  # at home, where FastAPI answers for itself
            detail = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in detail)
        return str(detail)
    except (ValueError, KeyError, TypeError):
        return f"the server answered {answer.status_code}: {answer.text[:200]}"
