"""`POST /registry/jobs/check`: what is wrong with files of examples, before a job is started."""

from typing import Any

import pytest
from httpx import AsyncClient

from server.admin import jobs
from tests.server.admin.conftest import ClientOf, items, problem
from tests.server.jobs.conftest import examples

CHECK = "/registry/jobs/check"


async def sent(client: AsyncClient, text: str | bytes) -> str:
    """Upload a file of examples and return its id."""
    answer = await client.post(
        "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("x.jsonl", text)}
    )
    assert 200 == answer.status_code, answer.text
    return str(answer.json()["id"])


async def checked(
    client: AsyncClient, training: str | bytes, validation: str | None = None
) -> dict[str, Any]:
    """Return what a check of two files says."""
    body = {"training_file": await sent(client, training)}
    if validation is not None:
        body["validation_file"] = await sent(client, validation)
    answer = await client.post(CHECK, json=body)
    assert 200 == answer.status_code, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_good_files_are_counted(admin: AsyncClient) -> None:
    """Files that a job would take have no problem, and no job is started."""
    validation = examples(14).partition('{"messages": [{"role": "user", "content": "what is 12?')
    told = await checked(admin, examples(12), validation[1] + validation[2])
    assert {
        "usable": True, "examples": 12, "questions": 12, "validation_examples": 2, "problems": [],
        "more": 0,
    } == told  # fmt: skip
    assert [] == items(await admin.get("/registry/jobs"))


async def test_every_bad_line_is_told_in_its_place(admin: AsyncClient) -> None:
    """Each bad line of both files has its file, its number and what is wrong with it."""
    training = f'{examples(12)}nothing\n\n{{"messages": []}}\n'.encode() + b"\xff\n"
    told = await checked(admin, training, examples(1) + "[1]\n")
    assert not told["usable"]
    assert [
        ("training_file", 13, "not JSON"), ("training_file", 15, "expected at least a question"),
        ("training_file", 16, "not UTF-8"), ("validation_file", 2, "expected {"),
        ("validation_file", 1, "asks what line 1 of the training file asks"),
    ] == [
        (one["file"], one["line"], one["message"][: len(words)])
        for one, words in zip(
            told["problems"],
            ("not JSON", "expected at least a question", "not UTF-8", "expected {",
             "asks what line 1 of the training file asks"),
            strict=True,
        )
    ]  # fmt: skip


async def test_what_is_wrong_with_a_whole_file_has_no_line(admin: AsyncClient) -> None:
    """Too few examples, and nothing to measure on, are problems of a file."""
    told = await checked(admin, examples(3), "\n")
    assert [("training_file", None), ("validation_file", None)] == [
        (one["file"], one["line"]) for one in told["problems"]
    ]
    assert "at least 10" in told["problems"][0]["message"]


async def test_no_more_than_a_thousand_problems_are_listed(admin: AsyncClient) -> None:
    """The first problems are listed, and the others are counted."""
    told = await checked(admin, "x\n" * 1500)
    assert (1000, 501) == (len(told["problems"]), told["more"])


async def test_files_of_others_and_large_files_are_not_checked(
    client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that the caller does not see is unknown, and a large one is left to a job."""
    owner, stranger = await client_of("publish", "team"), await client_of("publish", "other")
    file = await sent(owner, examples(12))
    problem(await stranger.post(CHECK, json={"training_file": file}), 404, "file_not_found")
    monkeypatch.setattr(jobs, "_MOST_CHECKED", 10)
    answer = await owner.post(CHECK, json={"training_file": file})
    assert "Start the job" in problem(answer, 400, "invalid_request")["detail"]


@pytest.mark.parametrize(
    "body",
    [{}, {"training_file": "x"}, {"training_file": f"file-{'0' * 24}", "colour": 1},
     {"training_file": f"file-{'0' * 24}/.."}, {"training_file": None}],
)  # fmt: skip
async def test_other_bodies_are_refused(admin: AsyncClient, body: Any) -> None:
    """A body that names no file of examples is refused."""
    problem(await admin.post(CHECK, json=body), 400, "invalid_request")
