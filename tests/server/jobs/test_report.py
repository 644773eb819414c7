"""Tables and charts of reports: every candidate, its interval and its status."""

import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from server.cli.jobs import print_report
from server.jobs.chart import chart
from server.jobs.report import gain_text, how_measured, interval_text, rows
from tests.server.jobs.conftest import MakeOutcome, figure

OLD = Path(__file__).parents[2] / "data" / "report-before-verdicts.json"


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


def test_gains_are_shown_with_their_p(report: Any) -> None:
    """A gain has its interval and p, adjusted where the comparison was not named before; a
    candidate that was compared with nothing has none."""
    texts = {row.name: gain_text(row.comparison, "exact_match") for row in rows(report)}
    assert "20.0 [10.0, 30.0], p 0.001, to fresh_lora" == texts["recycle"]
    assert "20.0 [10.0, 30.0], Holm's p 0.25, to fresh_lora" == texts["random_parameters"]
    assert "" == texts["base"]


def test_what_was_judged_is_shown(report: Any) -> None:
    """Figures are those of the files that would be served, where there are any."""
    report["candidates"][2]["folded"] = {"exact_match": figure(0.3), "pattern": None, "loss": None}
    (recycle,) = (row for row in rows(report) if row.name == "recycle")
    assert figure(0.3) == recycle.figures["exact_match"]


@pytest.mark.parametrize(
    ("folds", "estimate", "says"),
    [
        (5, 90.0, "5-fold cross-fitting: 12 questions, each left out of the training that it"),
        (5, None, "learning and measuring took 0 s, 1 for folds"),
        (0, None, "measured on 12 questions that no training and no choice saw; learning and"),
        (0, 9000.0, "; folds would take some 2.5 h more (fold_hours)"),
    ],
)
def test_how_it_was_measured_and_its_cost_are_said(
    report: Any, folds: int, estimate: float | None, says: str
) -> None:
    """The sentence has the questions, the seconds, and what folds took or would take."""
    report["measured"] = {"folds": folds, "estimate": estimate, "fold_seconds": 1.2}
    assert says in str(how_measured(report))


def test_a_report_before_verdicts_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    """A report that a release before verdicts wrote has its table, its sentence and its chart."""
    old = json.loads(OLD.read_text())
    print_report(old)
    printed = " ".join(capsys.readouterr().out.split())
    assert old["ranked"] == [row.name for row in rows(old)]
    assert {None} == {row.comparison for row in rows(old)}
    assert set(old["ranked"]) <= set(printed.split())
    assert old["sentence"] in printed
    assert how_measured(old) is None
    assert "fresh_lora_dropout (published)" in chart(old)


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
