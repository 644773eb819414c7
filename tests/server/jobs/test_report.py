"""Tables and charts of reports: every candidate, its interval and its status."""

import math
from typing import Any
from xml.etree import ElementTree

import pytest

from server.jobs.chart import chart
from server.jobs.report import interval_text, rows
from tests.server.jobs.conftest import MakeOutcome, figure


@pytest.fixture
def report(make_outcome: MakeOutcome) -> Any:
    """A report in which recycle was served and published."""
    found = make_outcome(published={"candidate": "recycle", "model": "bot@1"}, served=None)
    for candidate in found["candidates"]:
        candidate["served"] = None
        candidate["unservable"] = candidate["serve"].get("reason")
    found["candidates"][2]["served"] = {
        "figures": {"exact_match": figure(0.55), "pattern": None, "loss": None}
    }
    return found


def test_rows_are_ranked_and_marked(report: Any) -> None:
    """Rows are in the verdict's order, and mark published, served and unservable candidates."""
    found = list(rows(report))
    assert report["ranked"] == [row.name for row in found]
    assert [True, False, False, False] == [row.published for row in found]
    assert found[0].served is not None
    assert "without content" in str(found[1].reason)


@pytest.mark.parametrize(
    ("given", "metric", "expected"),
    [
        (figure(0.5), "exact_match", "50.0 [40.0, 60.0]"),
        (figure(1.25), "loss", "1.250 [1.150, 1.350]"),
        (None, "pattern", ""),
        ({"value": None, "low": None, "high": None}, "loss", ""),
    ],
)
def test_a_figure_is_shown_with_its_interval(given: Any, metric: Any, expected: str) -> None:
    """Shares are shown in percent, losses as they are, and missing figures as nothing."""
    assert expected == interval_text(given, metric)


def test_the_chart_shows_every_candidate(report: Any) -> None:
    """The chart names every candidate and marks published and unservable ones."""
    root = ElementTree.fromstring(chart(report))  # noqa: S314 - it is ours
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"recycle (published)", "random_parameters (cannot be served)", "base"} <= set(texts)
    assert "validation loss while training, by share of the steps" in texts


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_not_finite_is_left_out(report: Any, value: float | None) -> None:
    """Figures that are not finite are left out, and the chart remains valid."""
    for candidate in report["candidates"]:
        candidate["curve"] = [[1, value, value]]
    report["candidates"][0]["figures"]["exact_match"] = {"value": value, "low": 0.1, "high": 0.2}
    report["candidates"][1]["figures"]["exact_match"] = None
    text = chart(report)
    ElementTree.fromstring(text)  # noqa: S314 - it is ours
    assert "nan" not in text


def test_names_are_no_markup(report: Any) -> None:
    """Names of candidates are escaped."""
    report["candidates"][0]["name"] = report["ranked"][3] = "<script>"
    assert "<script>" not in chart(report)
