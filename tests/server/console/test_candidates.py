"""A report's candidates as a table and as a chart."""

import json
from collections.abc import Mapping
from typing import Any, cast

from server.console.pages.jobs.candidates import candidate_columns, interval_options, publishable
from server.jobs.report import ReportJson, rows
from tests.server.jobs.conftest import candidate, comparison


def report(**changes: Any) -> ReportJson:
    """Return a report in which recycle is published, before a control that cannot be served."""

    def added(made: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        return {**made, "served": None, "unservable": None, **more}

    noise = {"kind": "nothing", "reason": "a control without content"}
    document = {
        "method": "recycle", "main": "recycle", "metric": "exact_match", "verdict": "better",
        "ranked": ["recycle", "random_parameters", "base"], "served": None,
        "published": {"candidate": "recycle", "model": "team/bot@1"},
        "comparisons": [comparison("recycle")], "sentence": "serve recycle",
        "candidates": [
            added(candidate("base", {"kind": "base"}, 0.1)),
            added(candidate("recycle", {"kind": "recipe"}, 0.6)),
            added(candidate("random_parameters", noise, 0.5), unservable="without content"),
        ],
    }  # fmt: skip
    return cast("ReportJson", document | changes)


def table(shown: ReportJson) -> list[dict[str, Any]]:
    """Return the cells of a report's table by their columns."""
    columns = candidate_columns(shown)
    return [{column.label: column.value(row) for column in columns} for row in rows(shown)]


def test_candidates_are_listed_beside_their_controls() -> None:
    """Each candidate has its figures with 95 % intervals, and says whether it is a control."""
    best, noise, base = table(report())
    assert best == {
        "Candidate": "recycle", "What it is": "the recycle (the method)",
        "exact match": "60.0 [50.0, 70.0]", "validation loss": "0.400 [0.300, 0.500]",
        "Gain": "20.0 [10.0, 30.0], p 0.001, to fresh_lora", "State": "published",
    }  # fmt: skip
    assert noise["State"] == "cannot be served: without content"
    assert base["What it is"] == "the base (a control)"


def test_old_reports_are_readable() -> None:
    """A report from before verdicts, comparisons and folds has its figures and its sentence."""
    old = {name: part for name, part in report().items() if name not in ("verdict", "comparisons")}
    best = table(cast("ReportJson", old))[0]
    assert "Gain" not in best
    assert best["exact match"] == "60.0 [50.0, 70.0]"


def test_what_can_be_published() -> None:
    """Candidates can be published if they can be served and are not published already."""
    assert publishable(report()) == ["base"]
    assert publishable(report(published=None)) == ["recycle", "base"]


def test_intervals_are_drawn() -> None:
    """The chart has each candidate's interval by the report's metric, the best first."""
    options = interval_options(report())
    json.dumps(options, allow_nan=False)
    assert options["yAxis"]["data"] == ["recycle", "random_parameters", "base"]
    best, noise, base, _ = options["series"]
    assert [point["value"][0] for point in best["data"]] == [50.0, 60.0, 70.0]
    assert len({series["color"] for series in (best, noise, base)}) == 3


def test_figures_that_are_not_finite_are_left_out() -> None:
    """A candidate whose figure is not finite is in the table without it, and not in the chart."""
    broken: Any = report()
    broken["candidates"][1]["folded"]["exact_match"] = {"value": None, "low": None, "high": None}
    assert interval_options(broken)["yAxis"]["data"] == ["random_parameters", "base"]
    assert table(broken)[0]["exact match"] == ""
