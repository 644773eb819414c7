"""The adaptive methods and their options, as the server knows them."""

from typing import Any, Literal

from pydantic import BaseModel

from server.console.api.client import Api


class JobMethod(BaseModel):
    """An adaptive method."""

    name: str
    meaning: str


class JobOption(BaseModel):
    """An option of a job; `method` is None where every method has it."""

    name: str
    method: str | None
    type: Literal["integer", "number", "boolean", "choice", "text", "list", "object"]
    default: Any
    meaning: str
    accepts: str
    choices: list[Any] = []
    words: list[str] = []
    minimum: float | None = None
    maximum: float | None = None


class JobOptions(BaseModel):
    """Everything that a job can be asked for."""

    methods: list[JobMethod]
    serve: list[str]
    fewest_examples: int
    options: list[JobOption]

    def of(self, method: str) -> list[JobOption]:
        """Return the options that a method has, without the method itself."""
        return [
            option
            for option in self.options
            if option.name != "method" and option.method in (None, method)
        ]


async def job_options(api: Api) -> JobOptions:
    """Return the methods and the options of jobs."""
    return await api.get(JobOptions, "jobs", "options")
