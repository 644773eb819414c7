"""Files of examples: uploading one, checking it before a job starts, removing it again."""

from typing import Literal

from pydantic import BaseModel

from server.console.api.client import Api

_UPLOAD_SECONDS = 300.0
_CHECK_SECONDS = 120.0
Param = Literal["training_file", "validation_file"]


class ExampleFile(BaseModel):
    """A file on the server."""

    id: str
    filename: str
    bytes: int


class Problem(BaseModel):
    """What is wrong with a line of a file, or with all of it where `line` is None."""

    file: Param
    line: int | None
    message: str


class Check(BaseModel):
    """What a job would make of its files; `more` problems are left out."""

    usable: bool
    examples: int
    questions: int
    validation_examples: int
    problems: list[Problem]
    more: int


async def upload(api: Api, filename: str, content: bytes) -> ExampleFile:
    """Upload a file of examples."""
    answer = await api.raw(
        "POST", "/v1/files", seconds=_UPLOAD_SECONDS, data={"purpose": "fine-tune"},
        files={"file": (filename, content)},
    )  # fmt: skip
    return ExampleFile.model_validate_json(answer.content)


async def remove(api: Api, file: str) -> None:
    """Remove a file from the server."""
    await api.raw("DELETE", f"/v1/files/{file}")


async def check(api: Api, training: str, validation: str | None) -> Check:
    """Return what is wrong with the examples, without starting a job."""
    body = {"training_file": training, "validation_file": validation}
    return await api.send(Check, "POST", "jobs", "check", json=body, seconds=_CHECK_SECONDS)
