"""Malformed forms: an error in OpenAI's shape, and no stored file."""

import pytest
from httpx import AsyncClient

from server.app import create_app
from server.gateway import Gateway
from tests.server.asgi import Exchange
from tests.server.disks import full_disk

FORM = "multipart/form-data; boundary=edge"


def part(name: str, value: str, filename: str | None = None) -> str:
    """Return one part of a form."""
    more = "" if filename is None else f'; filename="{filename}"'
    head = f'Content-Disposition: form-data; name="{name}"{more}'
    return f"--edge\r\n{head}\r\n\r\n{value}\r\n"


FILE, PURPOSE, END = part("file", "x\n", "x.jsonl"), part("purpose", "fine-tune"), "--edge--\r\n"


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        ("{}", "application/json", "must be multipart/form-data"),
        ("{}", "multipart/form-data", "must be multipart/form-data"),
        ("nonsense", FORM, "not a multipart form"),
        (FILE + PURPOSE, FORM, "before the form is complete"),
        ("", FORM, "before the form is complete"),
        (PURPOSE + END, FORM, "Send the file"),
        (FILE + END, FORM, "must be 'fine-tune', not None"),
        (FILE + part("purpose", "batch") + END, FORM, "not 'batch'"),
        (FILE + FILE + PURPOSE + END, FORM, "exactly one file"),
        (part("other", "x", "x.jsonl") + PURPOSE + END, FORM, "in the field `file`"),
        (part("file", "x") + PURPOSE + END, FORM, "Send the file"),
        (FILE + PURPOSE + part("expires_after[seconds]", "9") + END, FORM, "not supported"),
        (FILE + PURPOSE + part("x", "y" * 2000) + END, FORM, "longer than 1000 bytes"),
        (f"--edge\r\nX: {'y' * 9000}\r\n\r\n", FORM, "Maximum header size exceeded"),
        (FILE + "".join(part(f"f{n}", "") for n in range(30)) + END, FORM, "more than 20 fields"),
    ],
)
async def test_a_bad_form_is_refused(
    client: AsyncClient, gateway: Gateway, body: str, kind: str, says: str
) -> None:
    """A malformed form is refused with a message and leaves no file."""
    answer = await client.post("/v1/files", content=body.encode(), headers={"content-type": kind})
    assert 400 == answer.status_code, answer.text
    assert says in answer.json()["error"]["message"]
    assert () == gateway.registry.files.page().items
    assert [] == [path for path in gateway.settings.jobs.rglob("*") if path.is_file()]


async def test_fields_may_come_in_any_order(client: AsyncClient) -> None:
    """Fields come in any order, and unprintable characters of a file's name are dropped."""
    body = PURPOSE + part("file", "x\n", "../\té\u202e.jsonl") + END
    answer = await client.post("/v1/files", content=body.encode(), headers={"content-type": FORM})
    assert "../é.jsonl" == answer.json()["filename"]


async def test_a_full_disk_says_so(client: AsyncClient, gateway: Gateway) -> None:
    """A full disk is 507, and no part of the file remains."""
    body = part("file", "x" * 200_000, "x.jsonl") + PURPOSE + END
    with full_disk(100_000):
        answer = await client.post(
            "/v1/files", content=body.encode(), headers={"content-type": FORM}
        )
    assert (507, "storage_full") == (answer.status_code, answer.json()["error"]["code"])
    assert "no room on disk for the file" in answer.json()["error"]["message"]
    assert [] == [path for path in gateway.settings.jobs.rglob("*") if path.is_file()]


async def test_a_client_that_hangs_up_leaves_nothing(gateway: Gateway) -> None:
    """A client that disconnects in the middle of a file leaves nothing."""
    exchange = Exchange("/v1/files", (FILE[:-10]).encode(), hang_up_in_body=True)
    exchange._scope["headers"] = [(b"content-type", FORM.encode())]
    await exchange.run(create_app(gateway))
    assert [] == [path for path in gateway.settings.jobs.rglob("*") if path.is_file()]
