"""The probe's process and command: reports arrive, and failing adapters are quarantined."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from registry.errors import VersionQuarantined
from registry.references import parse_reference
from registry.service import Registry
from server.cli import app
from server.probe import run
from server.probe.measure import Measured
from server.probe.run import ProbeFailed, probe
from tests.adapters import make_adapter
from tests.server.conftest import BASE, DEMO
from tests.server.probe import children

BASE_FOLDER = str(DEMO / "base")


SIGNATURE = np.ones(4, dtype=np.float32)


@pytest.mark.parametrize(
    ("measured", "passed", "codes"),
    [
        (Measured(effect=0.3, signature=SIGNATURE), True, []),
        (Measured(effect=1e-9, signature=SIGNATURE), True, ["A091 no-effect"]),
        (Measured(effect=None, signature=None), False, ["A090 logits-not-finite"]),
    ],
)
def test_what_was_measured_is_judged(measured: Measured, passed: bool, codes: list[str]) -> None:
    """Logits that are not finite refuse an adapter; a missing effect is a warning."""
    report = run._report(measured)
    assert (passed, codes) == (report.passed, [item.problem.code for item in report.findings])


@pytest.mark.parametrize(
    ("child", "seconds", "says"),
    [
        (children.die, 60.0, "its process ended by signal 9"),
        (children.hang, 0.5, r"longer than 0\.5 s"),
        (children.complain, 60.0, "has no config"),
    ],
)
def test_a_process_without_a_result_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, child: object, seconds: float, says: str
) -> None:
    """A process without a result is one sentence, no finding, and leaves no process."""
    monkeypatch.setattr(run, "_measure", child)
    before = multiprocessing.active_children()  # other tests' workers
    with pytest.raises(ProbeFailed, match=says):
        list(probe(BASE_FOLDER, [DEMO / "adapters" / "zorp"], timeout_seconds=seconds))
    assert [] == [item for item in multiprocessing.active_children() if item not in before]


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")  # of its weight sketch
@pytest.mark.slow
def test_the_command_quarantines_what_is_unfit(
    home: Path, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next request gets the quarantine's reason; a passing adapter is found by behaviour."""
    monkeypatch.setenv("WEFT_HOME", str(home))
    monkeypatch.setenv("WEFT_MODEL", BASE_FOLDER)
    monkeypatch.setenv("WEFT_SERVED_BASE", BASE)
    monkeypatch.setenv("WEFT_NORM_LIMIT", "1e300")
    monkeypatch.setenv("WEFT_FACTOR_LIMIT", "1e300")
    d_out, d_in = registry.bases.get(BASE).shapes["model.layers.0.mlp.down_proj"]
    modules = {"model.layers.0.mlp.down_proj": (d_in, d_out)}
    wild = make_adapter(tmp_path / "wild", modules=modules, size=1e20, base=BASE)
    runner = CliRunner()
    assert 0 == runner.invoke(app, ["adapters", "import", str(wild)]).exit_code
    done = runner.invoke(app, ["adapters", "probe", "wild@1", "zorp@prod", "--json"])
    assert 1 == done.exit_code, done.output
    unfit, fit = json.loads(done.stdout)
    assert ("wild@1", False) == (unfit["adapter"], unfit["passed"])
    assert ("zorp@1", True) == (fit["adapter"], fit["passed"])
    with pytest.raises(VersionQuarantined, match="A090 logits-not-finite"):
        registry.versions.resolve(parse_reference("wild"))
    registry.versions.resolve(parse_reference("zorp"))
    hits = registry.search.finder.search(like=parse_reference("zorp"), by="behaviour", limit=3)
    assert {"zorp@1"} >= {hit.reference for hit in hits}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["zorp@9"], "Nothing is registered as 'zorp@9'"),
        (["zorp@nowhere"], "Nothing is registered as 'zorp@nowhere'"),
        (["nothing"], "Nothing is registered"),
        (["0" * 64], "is a digest"),
    ],
)
def test_an_unknown_version_is_a_sentence(
    home: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    """An unknown version is refused before a base is loaded."""
    monkeypatch.setenv("WEFT_HOME", str(home))
    result = CliRunner().invoke(app, ["adapters", "probe", *words])
    assert 1 == result.exit_code
    assert says in result.stderr.replace("\n", " ")


def test_the_base_must_be_theirs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter of another base is not probed."""
    monkeypatch.setenv("WEFT_HOME", str(home))
    result = CliRunner().invoke(app, ["adapters", "probe", "zorp"])
    assert 1 == result.exit_code
    assert "--model" in result.stderr
