"""Log lines: their format, the request that they belong to, and what is never in them."""

import json
import logging
from typing import Any

import pytest
from httpx import AsyncClient

from server.compose.resolve import Resolver
from server.gateway import Gateway
from server.telemetry import record
from server.telemetry.logs import Format, set_up_logging

SECRET_PROMPT = "the-combination-of-the-safe-is-4711"


class Lines:
    """What was logged."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys, self._text = capsys, ""

    @property
    def text(self) -> list[str]:
        """The lines."""
        self._text += self._capsys.readouterr().err
        return self._text.splitlines()

    @property
    def json(self) -> list[dict[str, Any]]:
        """The lines as JSON."""
        return [json.loads(line) for line in self.text]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str], own_logging: None) -> Lines:
    """What this process logs to stderr."""
    return Lines(capsys)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_one_event_is_one_line(lines: Lines, log_format: Format) -> None:
    """A long message with line breaks is one line, without a terminal's width."""
    set_up_logging(log_format)

    logging.getLogger("weft.test").info("long %s\nforged\r\x1b[2K", "x" * 500)

    assert len(lines.text) == 1
    assert "x" * 500 in lines.text[0]
    assert "\x1b" not in lines.text[0]


def test_json_lines(lines: Lines) -> None:
    """A JSON line has time, level, logger, message and the fields of the request."""
    set_up_logging("json")
    record.begin("abc")
    record.note(caller="alice", model="d" * 64)

    logging.getLogger("weft.test").warning("hello")

    line = lines.json[0]
    assert line.pop("time")
    assert line == {
        "level": "WARNING", "logger": "weft.test", "message": "hello", "request_id": "abc",
        "caller": "alice", "model": "d" * 64,
    }  # fmt: skip


def test_a_traceback_is_in_its_line(lines: Lines) -> None:
    """In JSON a traceback is a field of its line."""
    set_up_logging("json")
    try:
        raise KeyError("x")
    except KeyError:
        logging.getLogger("weft.test").exception("failed")

    assert "KeyError" in lines.json[0]["exc_info"]


def test_libraries_are_quiet(lines: Lines) -> None:
    """Libraries log warnings only, in the same format."""
    set_up_logging("json")
    logging.getLogger("httpx").info("GET http://…")
    logging.getLogger("asyncio").warning("odd")
    assert ["odd"] == [line["message"] for line in lines.json]


async def test_access_log(client: AsyncClient, gateway: Gateway, lines: Lines) -> None:
    """Each request is one line with method, path, status, seconds, caller and digest."""
    set_up_logging("json")
    body = {"model": "cat(zorp, blim)", "prompt": "x"}

    answer = await client.post("/v1/completions", json=body, headers={"x-request-id": "r-1"})

    (line,) = [line for line in lines.json if line["logger"] == "weft.access"]
    fields = ("method", "path", "status", "request_id", "caller", "model")
    digest = answer.headers["x-weft-artifact"]
    assert ["POST", "/v1/completions", 200, "r-1", "anybody", digest] == [
        line[field] for field in fields
    ]
    assert 0 < line["seconds"] < 60
    assert answer.headers["x-request-id"] == "r-1"


async def test_refusals_are_logged_with_their_code(client: AsyncClient, lines: Lines) -> None:
    """A refused request leaves a line with the code of its error."""
    set_up_logging("json")
    await client.post("/v1/completions", json={"model": "nobody", "prompt": "x"})
    await client.get("/registry/adapters/nobody/-/versions/1")
    await client.get("/nowhere")
    assert [(404, "model_not_found"), (404, "model_not_found"), (404, "no_such_route")] == [
        (line["status"], line["error"]) for line in lines.json
    ]


async def test_probes_are_not_logged(client: AsyncClient, lines: Lines) -> None:
    """Probes and scrapes that succeed leave no line."""
    set_up_logging("text")
    for path in ("/health", "/metrics"):
        assert (await client.get(path)).status_code == 200
    assert [] == lines.text


@pytest.mark.parametrize("header", ["a b", "x" * 129, "new\tline", "'\"", ""])
async def test_an_id_that_cannot_be_logged_is_replaced(client: AsyncClient, header: str) -> None:
    """A client's id of other characters, or too long, is replaced by one of ours."""
    answer = await client.get("/health", headers={"x-request-id": header})
    assert len(answer.headers["x-request-id"]) == 32


async def test_a_path_cannot_forge_a_line(client: AsyncClient, lines: Lines) -> None:
    """A line break in a path is escaped."""
    set_up_logging("text")
    await client.get("/v1/models/a%0AINFO%20forged")
    assert len(lines.text) == 1
    assert r"a\nINFO forged" in lines.text[0]


async def test_an_internal_error_has_the_request_s_id(
    client: AsyncClient, gateway: Gateway, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The traceback of a defect carries the id that the client got."""
    set_up_logging("json")

    def defect(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Resolver, "resolve", defect)
    body = {"model": "zorp", "prompt": "x"}
    answer = await client.post("/v1/completions", json=body, headers={"x-request-id": "r-2"})

    assert answer.status_code == 500
    assert ["r-2", "r-2"] == [line["request_id"] for line in lines.json]
    assert "ZeroDivisionError" in lines.json[0]["exc_info"]


@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_neither_keys_nor_prompts_are_logged(
    client: AsyncClient, gateway: Gateway, lines: Lines, log_format: Format
) -> None:
    """No line of a run with good, refused and failing requests has a key or a prompt in it."""
    set_up_logging(log_format)
    _, key = gateway.registry.access.keys.create("bob", role="admin", all_namespaces=True)
    good, wrong = {"authorization": f"Bearer {key}"}, {"authorization": "Bearer wrong-key-4711"}
    prompt = {"prompt": SECRET_PROMPT}
    chat = {"messages": [{"role": "user", "content": SECRET_PROMPT}]}
    for headers in (good, wrong, {}):
        for model in ("zorp", "cat(zorp, blim)", "cat(1e30*zorp)", "nobody", 7, SECRET_PROMPT * 0):
            await client.post("/v1/completions", json={"model": model} | prompt, headers=headers)
        await client.post("/v1/chat/completions", json={"model": "zorp"} | chat, headers=headers)
        await client.post("/v1/completions", content=f'{{"{SECRET_PROMPT}', headers=headers)
        await client.get("/registry/search", params={"text": SECRET_PROMPT}, headers=headers)

    assert len(lines.text) >= 20
    for line in lines.text:
        for secret in (key, "wrong-key-4711", SECRET_PROMPT):
            assert secret not in line
    assert any("bob" in line for line in lines.text)
