"""`GET /registry/methods` and `GET /registry/jobs/options`: what merges and jobs can be asked for.

The values are the declarations of the methods themselves. Not covered: what a method does with
options (METHODS.md, ADAPTIVE.md).
"""

from collections.abc import Mapping
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field

from merge.adaptive.options import LEARNED, MEANINGS, Method, Options, form_of, method_of
from merge.methods.options import Form, ValueType
from server.admin.schemas import Item
from server.auth import Reader
from server.jobs.create import CONTROLS
from server.jobs.datasets import FEWEST
from server.jobs.finish import BEST, NONE
from server.routing import admin_routes

WeightRule = Literal["multiply", "relative"]


class OptionItem(Item):
    """An option: its default, and what it accepts as a sentence and as the parts of a form."""

    name: str = Field(examples=["density"])
    type: ValueType = Field(examples=["number"])
    default: Any = Field(examples=[0.2])
    meaning: str = Field(examples=["share of each update's entries kept, the largest."])
    accepts: str = Field(examples=["a number above 0 and at most 1"])
    choices: list[str] = Field(examples=[[]], description="All values of a choice.")
    words: list[str] = Field(examples=[["auto"]], description="Accepted beside other values.")
    minimum: int | float | None = Field(examples=[0.0])
    above_minimum: bool = Field(examples=[True], description="Whether the minimum is refused.")
    maximum: int | float | None = Field(examples=[1.0])


class MethodItem(Item):
    """A static merge method. A weight multiplies its ingredient's update, or is relative."""

    name: str = Field(examples=["ties"])
    title: str = Field(examples=["TIES: trim to the largest entries, elect signs, mean"])
    source: str = Field(examples=["arXiv:2306.01708"])
    differs: str | None = Field(examples=["the result is truncated"])
    weights: WeightRule = Field(examples=["multiply"])
    most_ingredients: int | None = Field(examples=[None], description="In one module.")
    positive_weights: bool = Field(examples=[False], description="Whether others are refused.")
    equal_ranks: bool = Field(examples=[False], description="Whether other ranks are refused.")
    options: list[OptionItem]


class MethodList(Item):
    """Every static merge method, by name."""

    methods: list[MethodItem]


class LearnedItem(Item):
    """An adaptive method and what it learns."""

    name: Method = Field(examples=["lorahub"])
    meaning: str = Field(examples=["one weight per adapter, without gradients"])


class JobOptionItem(OptionItem):
    """An option of jobs; `method` is the only method that uses it, or null."""

    method: Method | None = Field(examples=["lorahub"])


class JobOptions(Item):
    """What a job can be asked for; `serve` has the candidates that a job of any method has."""

    methods: list[LearnedItem]
    options: list[JobOptionItem]
    serve: list[str] = Field(examples=[["best", "none", "base", "fresh_lora"]])
    fewest_examples: int = Field(examples=[10])


def methods_router() -> APIRouter:
    """Return the routes."""
    router = admin_routes("", "methods")

    @router.get("/methods")
    def list_methods(_: Reader) -> MethodList:
        """List the static merge methods with their options."""
        from merge.methods import METHODS  # here: it imports torch

        return MethodList(
            methods=[
                MethodItem(
                    name=name, title=method.title, source=method.paper, differs=method.differs,
                    weights="relative" if "weights" in method.exempt else "multiply",
                    most_ingredients=method.requirements.members,
                    positive_weights=method.requirements.positive_weights,
                    equal_ranks=method.requirements.equal_ranks,
                    options=[
                        OptionItem(**_option(option, p.kind.form, p.default, p.meaning))
                        for option, p in method.parameters.items()
                    ],
                )
                for name, method in sorted(METHODS.items())
            ]
        )  # fmt: skip

    @router.get("/jobs/options")
    def list_job_options(_: Reader) -> JobOptions:
        """List the adaptive methods, the options of jobs, and the candidates to serve."""
        return JobOptions(
            methods=[LearnedItem(name=name, meaning=text) for name, text in LEARNED.items()],
            options=[_job_option(name, value) for name, value in Options().to_json().items()],
            serve=[BEST, NONE, *CONTROLS],
            fewest_examples=FEWEST,
        )

    return router


def _job_option(name: str, default: object) -> JobOptionItem:
    method = method_of(name)
    meaning = MEANINGS[name].removeprefix(f"{method}: ")
    return JobOptionItem(**_option(name, form_of(name), default, meaning), method=method)


def _option(name: str, form: Form, default: object, meaning: str) -> Mapping[str, Any]:
    """Return the fields of an option's item."""
    return {
        "name": name, "type": form.type, "default": default, "meaning": meaning,
        "accepts": form.accepts, "choices": list(form.choices), "words": list(form.words),
        "minimum": form.minimum, "above_minimum": form.above_minimum, "maximum": form.maximum,
    }  # fmt: skip
