"""The commands on history: published compositions, evaluations, the audit log, artifacts and
lineage; each at home and through a server.
"""

import json
from typing import Any

import pytest

from registry.service import Registry
from tests.reading import read_adapter
from tests.server.commands import DigestOf, failed, words
from tests.server.conftest import BASE, Weft

MEASURED = ("--dataset", "hearsay", "--metric", "accuracy")


def told(weft: Weft, *command: object) -> Any:
    """Return a command's output as JSON."""
    result = weft(*command, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_composition_is_published_as_an_adapter(anywhere: Weft, registry: Registry) -> None:
    """A composition's merge becomes a version with its origin; publishing it again gives the
    same version.
    """
    words(anywhere("compositions", "add", "mix", "cat(zorp, blim)"))
    words(anywhere("compositions", "alias", "mix", "prod", 1))
    published = words(anywhere("compositions", "publish", "mix", "mixed", "--alias", "live"))
    made = read_adapter(registry, "mixed")
    assert {"mixed@1:", made.versions[0].digest} == published
    assert ["composition:mix@1"] == [version.source for version in made.versions]
    assert [("live", 1)] == [(alias.alias, alias.number) for alias in made.aliases]
    for reference in ("mix@1", "mix@prod"):
        assert published == words(anywhere("compositions", "publish", reference, "mixed"))


def test_what_cannot_be_published_says_why(anywhere: Weft, digest_of: DigestOf) -> None:
    """Adapters, unknown versions and aliases, digests and invalid names are refused with a
    reason.
    """
    words(anywhere("compositions", "add", "mix", "cat(zorp, blim)"))
    words(anywhere("compositions", "alias", "mix", "prod", 1))
    for reference, adapter, says in (
        ("zorp", "mixed", "'zorp'"),
        ("mix@9", "mixed", "mix@9"),
        ("mix@live", "mixed", "mix@prod"),
        (digest_of("zorp"), "mixed", "name@3"),
        ("mix", "Mixed", "is not a valid name"),
        ("mix", "mix", "already belongs"),
    ):
        failed(anywhere("compositions", "publish", reference, adapter), says)


def test_a_composition_shows_its_versions(anywhere: Weft) -> None:
    """The output has every version's expression, and the history of aliases."""
    words(anywhere("compositions", "add", "mix", "cat(zorp, blim)"))
    words(anywhere("compositions", "add", "mix", "linear(zorp, blim)"))
    words(anywhere("compositions", "alias", "mix", "prod", 1))
    assert {"cat(zorp,", "linear(zorp,", "prod"} <= words(anywhere("compositions", "show", "mix"))
    shown = told(anywhere, "compositions", "show", "mix")
    assert ["linear(zorp, blim)", "cat(zorp, blim)"] == [v["expression"] for v in shown["versions"]]
    assert [("prod", 1)] == [(m["alias"], m["to_number"]) for m in shown["alias_moves"]]


@pytest.mark.parametrize("kind", ["adapters", "compositions"])
def test_what_was_measured_is_kept(anywhere: Weft, kind: str) -> None:
    """An evaluation has dataset, metric, value, n, time and author; the newest comes first."""
    name = "zorp"
    if kind == "compositions":
        name = "mix"
        words(anywhere(kind, "add", name, "cat(zorp, blim)"))
    words(anywhere(kind, "alias", name, "prod", 1))
    when = ("--n", 94, "--at", "2026-11-20T12:00:00")
    said = words(anywhere(kind, "evaluate", name, *MEASURED, "--value", -0.25, *when))
    assert {f"{name}@1:", "accuracy", "-0.25", "hearsay"} <= said
    words(anywhere(kind, "evaluate", f"{name}@prod", *MEASURED, "--value", 0.5))
    later, first = told(anywhere, kind, "evaluations", f"{name}@1")
    assert (0.5, None) == (later["value"], later["n"])
    assert ("hearsay", "accuracy", -0.25, 94, "2026-11-20T12:00:00Z", f"{name}@1") == tuple(
        first[field] for field in ("dataset", "metric", "value", "n", "measured_at", "reference")
    )
    assert later["created_by"]
    assert {"hearsay", "-0.25", "94", "12:00"} <= words(anywhere(kind, "evaluations", name))


def test_what_cannot_be_measured_says_why(anywhere: Weft) -> None:
    """An invalid number, a missing dataset and an unknown version are refused with a reason."""
    for command, says in (
        (("zorp", *MEASURED, "--value", "nan"), "finite"),
        (("zorp", "--dataset", "", "--metric", "m", "--value", 1), "dataset"),
        (("zorp@9", *MEASURED, "--value", 1), "zorp@9"),
        (("zorp@live", *MEASURED, "--value", 1), "zorp@prod"),
    ):
        failed(anywhere("adapters", "evaluate", *command), says)
    failed(anywhere("adapters", "evaluations", "zrop"), "zorp")


def test_the_audit_log_tells_who_changed_what(anywhere: Weft, registry: Registry) -> None:
    """The log is newest first, filtered by actor, kind and subject, and limited."""
    words(anywhere("adapters", "alias", "zorp", "stable", 1))
    words(anywhere("adapters", "tag", "zorp", "law"))
    newest = registry.access.audit.page(limit=1).items[0]
    shown = words(anywhere("audit", "--limit", 1))
    assert {"tags.changed", "zorp", newest.actor} <= shown
    assert not {"alias.moved", "stable"} & shown
    moves = told(anywhere, "audit", "--action", "alias.moved", "--subject", "zorp")
    assert ["stable", "prod"] == [move["detail"]["alias"] for move in moves]
    mine = told(anywhere, "audit", "--actor", newest.actor)
    assert ["tags.changed", "alias.moved"] == [change["action"] for change in mine]


def test_artifacts_tell_what_they_are_of(anywhere: Weft) -> None:
    """Artifacts have digest, size, recipe by version names, and the measurements of the merge."""
    words(anywhere("compositions", "add", "mix", "cat(zorp, -0.5*blim; scale=0.8)"))
    words(anywhere("compositions", "publish", "mix", "mixed"))
    (item,) = told(anywhere, "artifacts", "list")
    listed = words(anywhere("artifacts", "list"))
    assert {item["digest"], f"{item['bytes'] / 1e6:.1f}", "mix@1", "yes"} <= listed
    assert {"cat(zorp@1,", "-0.5*blim@1;"} <= listed
    shown = words(anywhere("artifacts", "show", item["digest"][:12]))
    assert {item["digest"], "norm", "cosines", "cat(zorp@1,", "mix@1"} <= shown
    report = told(anywhere, "artifacts", "show", item["digest"])["report"]
    assert report["overall"]["norm"] > 0
    failed(anywhere("artifacts", "show", "0" * 64), "0" * 64)
    failed(anywhere("artifacts", "show", "mix"), "mix")


def test_lineage_goes_both_ways(
    anywhere: Weft, digest_of: DigestOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lineage leads from a version to all artifacts made of it, over all pages, and back from a
    digest.
    """
    monkeypatch.setattr("server.cli.artifacts.MAX_PAGE", 1)
    words(anywhere("compositions", "add", "mix", "cat(zorp, blim)"))
    words(anywhere("compositions", "add", "other", "cat(zorp, 0.5*blim)"))
    words(anywhere("compositions", "publish", "mix", "mixed"))
    down = told(anywhere, "adapters", "lineage", "zorp@prod")
    assert (digest_of("zorp"), ["zorp@1"], []) == (
        down["digest"], down["versions"], down["made_by"],
    )  # fmt: skip
    assert {"mix@1", "other@1"} == {name for r in down["used_by"] for name in r["compositions"]}
    (merged,) = {recipe["artifact"] for recipe in down["used_by"]} - {None}
    (recipe,) = told(anywhere, "adapters", "lineage", merged[:12])["made_by"]
    assert [["zorp@1"], ["blim@1"]] == [item["versions"] for item in recipe["ingredients"]]
    shown = words(anywhere("adapters", "lineage", "zorp"))
    assert {"other@1", "0.5*blim@1;", merged} <= shown
    failed(anywhere("adapters", "lineage", "0" * 64), "0" * 64)


def test_a_base_shows_its_shapes(anywhere: Weft, registry: Registry) -> None:
    """A base is shown under any spelling; layers of equal shape share a line."""
    shown = told(anywhere, "bases", "show", BASE.upper())
    expected = {name: list(shape) for name, shape in registry.bases.get(BASE).shapes.items()}
    assert (BASE, expected) == (shown["name"], shown["shapes"])
    printed = words(anywhere("bases", "show", BASE))
    assert {"model.layers.*.self_attn.q_proj", "LlamaForCausalLM"} <= printed
    failed(anywhere("bases", "show", "acme/unknown"), "acme/unknown", BASE)


def test_lists_speak_to_programs(anywhere: Weft) -> None:
    """`--json` prints the fields of the API."""
    words(anywhere("compositions", "add", "mix", "cat(zorp, blim)"))
    words(anywhere("keys", "create", "ci", "--role", "admin", "--all-namespaces"))
    for group, expected in (("bases", BASE), ("compositions", "mix"), ("keys", "ci")):
        assert expected in [item["name"] for item in told(anywhere, group, "list")]
