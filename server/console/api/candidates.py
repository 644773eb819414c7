"""The candidates of a job that can be asked, from its report."""

from pydantic import BaseModel

from server.console.api.client import Api


class Candidate(BaseModel):
    """A candidate that the engine has served: its model and its title."""

    model: str
    title: str


class _Served(BaseModel):
    artifact: str


class _Reported(BaseModel):
    name: str
    title: str
    served: _Served | None


class _Report(BaseModel):
    candidates: list[_Reported]
    ranked: list[str]


async def candidates(api: Api, job: str) -> list[Candidate]:
    """Return the candidates that the engine has answered for, the best first.

    Raises:
        Refused: with the API's words, such as that the job has not succeeded.
    """
    report = await api.get(_Report, "jobs", job, "report")
    by_name = {one.name: one for one in report.candidates}
    ranked = (by_name[name] for name in report.ranked if name in by_name)
    return [Candidate(model=one.served.artifact, title=one.title) for one in ranked if one.served]
