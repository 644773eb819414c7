"""`GET /registry/methods` and `/registry/jobs/options`: forms for every method and option."""

import math
from typing import Any

import pytest
from httpx import AsyncClient

from merge.adaptive.options import Options, OptionsInvalid
from merge.errors import RecipeInvalid
from merge.methods import METHODS
from tests.server.admin.conftest import ClientOf


async def listed(client: AsyncClient, path: str) -> dict[str, Any]:
    """Return what a route answers."""
    answer = await client.get(f"/registry/{path}")
    assert 200 == answer.status_code, answer.text
    body: dict[str, Any] = answer.json()
    return body


def accepted(option: dict[str, Any]) -> list[Any]:
    """Return values that an option says it accepts: its ends, its choices, its words."""
    step = 1 if option["type"] == "integer" else 1e-9
    ends: list[Any] = []
    if option["minimum"] is not None:
        ends.append(option["minimum"] + (step if option["above_minimum"] else 0))
    if option["maximum"] is not None:
        ends.append(option["maximum"])
    return [*ends, *option["choices"], *option["words"]]


def refused(option: dict[str, Any]) -> list[Any]:
    """Return values that an option says it does not accept."""
    beyond: list[Any] = ["no such word", math.nan]
    if option["minimum"] is not None:
        beyond.append(option["minimum"] - (0 if option["above_minimum"] else 1))
    if option["maximum"] is not None:
        beyond.append(option["maximum"] + 1)
    return beyond


async def test_every_method_is_listed_with_its_options(client_of: ClientOf) -> None:
    """Each merge method is there for the role read, with its options and their defaults."""
    found = (await listed(await client_of("read"), "methods"))["methods"]
    assert sorted(METHODS) == [method["name"] for method in found]
    for method in found:
        own = METHODS[method["name"]]
        defaults = {option["name"]: option["default"] for option in method["options"]}
        assert {n: p.default for n, p in own.parameters.items()} == defaults
    by_name = {method["name"]: method for method in found}
    assert ("relative", "multiply") == (by_name["lego"]["weights"], by_name["ties"]["weights"])
    assert 2 == by_name["slerp"]["most_ingredients"]
    assert by_name["karcher"]["positive_weights"]


async def test_every_option_says_what_it_means(client: AsyncClient) -> None:
    """Every option of merges and of jobs has a meaning and says what it accepts."""
    methods = (await listed(client, "methods"))["methods"]
    options = [option for method in methods for option in method["options"]]
    options += (await listed(client, "jobs/options"))["options"]
    assert [] == [option["name"] for option in options if not option["meaning"]]
    assert [] == [option["name"] for option in options if not option["accepts"]]


async def test_a_form_of_an_option_accepts_what_the_option_accepts(client: AsyncClient) -> None:
    """Bounds, choices and words of each option are those that its method accepts."""
    for method in (await listed(client, "methods"))["methods"]:
        bind = METHODS[method["name"]].bind
        for option in method["options"]:
            for value in accepted(option):
                bind({option["name"]: value})
            for value in refused(option):
                with pytest.raises(RecipeInvalid):
                    bind({option["name"]: value})


async def test_a_form_of_a_job_s_option_accepts_what_jobs_accept(client: AsyncClient) -> None:
    """Bounds, choices and words of each option of jobs are those that a job accepts."""
    told = await listed(client, "jobs/options")
    assert list(Options().to_json()) == [option["name"] for option in told["options"]]
    for option in told["options"]:
        if option["type"] in ("text", "object"):
            continue
        needs = {"method": option["method"] or "recycle"} | (
            {"initial": "normal"} if option["name"] == "activation" else {}
        )
        for value in accepted(option):
            Options.parse(needs | {option["name"]: value})
        for value in refused(option):
            with pytest.raises(OptionsInvalid):
                Options.parse(needs | {option["name"]: value})


async def test_an_option_names_the_only_method_that_has_it(client: AsyncClient) -> None:
    """An option of one adaptive method names it, and one of all methods names none."""
    told = await listed(client, "jobs/options")
    owners = {option["name"]: option["method"] for option in told["options"]}
    assert ["recycle", "lorahub", "scale"] == [method["name"] for method in told["methods"]]
    assert {"steps": "recycle", "budget": "lorahub", "static": "scale", "k": None} == {
        name: owners[name] for name in ("steps", "budget", "static", "k")
    }
    assert {"best", "none", "base"} <= set(told["serve"])
