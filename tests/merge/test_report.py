"""Reports: the JSON beside an artifact and the one-line summary."""

import json
from dataclasses import replace

from tests.merge.test_measure import report


def test_json_holds_every_figure() -> None:
    """The JSON names method, ingredients, scale, modules, overall figures and seconds by stage."""
    made, _ = report()
    document = json.loads(made.to_json())
    assert {
        "method", "ingredients", "scale", "overall", "modules", "seconds",
    } == document.keys()  # fmt: skip
    figures = {"rank", "norm", "cosines", "energy", "sign_conflict"}
    assert figures == document["modules"]["m"].keys()
    assert figures == document["overall"].keys()
    assert {"read": 0.1, "merge": 0.2, "measure": 0.05, "write": 0.3} == document["seconds"]
    assert made.modules["m"].conflict == document["modules"]["m"]["sign_conflict"]
    assert document["modules"]["n"]["sign_conflict"] is None


def test_summary_is_one_line() -> None:
    """The summary is one line: method, modules, rank, norm, cosines, energy, conflict, time."""
    line = report()[0].summary()
    assert "\n" not in line
    assert line.startswith("linear of 2: 2 modules, rank 5, norm ")
    assert "energy kept" in line
    assert "signs in conflict" in line
    assert "scaled" not in line
    assert "0.65 s" in line


def test_summary_tells_a_scale() -> None:
    """The summary shows the applied scale, so that a matched norm can be requested again."""
    assert "(scaled by 0.5)" in replace(report()[0], scale=0.5).summary()
