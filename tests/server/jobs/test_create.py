"""The creation of a job: its checks, and the row that it writes."""

from pathlib import Path
from typing import Any

import pytest

from merge.adaptive.options import Options, OptionsInvalid
from merge.errors import RecipeInvalid
from merge.recipe import Recipe
from registry.callers import Caller
from registry.errors import (
    AccessDenied,
    NameInvalid,
    NameTaken,
    UnknownReference,
    VersionQuarantined,
)
from registry.jobs.errors import UnknownFile
from registry.references import Reference
from registry.search.errors import FilterInvalid
from server.compose.expression import Expression, parse_model
from server.compose.resolve import NotAnIngredient
from server.errors import RequestInvalid
from server.gateway import Gateway
from server.jobs.create import JobRequest, create_job
from server.jobs.pools import PoolEmpty, PoolInvalid, choose
from tests.reading import read_adapter
from tests.server.conftest import BASE
from tests.server.jobs.conftest import examples, queue, send_file


def references(gateway: Gateway, pool: str | list[str], caller: Caller) -> list[str]:
    """Return a caller's pool."""
    return [m.reference for m in choose(gateway.registry, pool, base=BASE, caller=caller)]


EVERYTHING = Caller("ada")


@pytest.fixture
def private(gateway: Gateway, fresh: Path) -> str:
    """The name of an adapter that is private to other/."""
    gateway.registry.adapters.register(fresh, name="other/hidden")
    return "other/hidden"


def test_all_is_written_down(gateway: Gateway) -> None:
    """The row has all options with defaults, the pool by digest, and the candidates to serve."""
    job = queue(
        gateway, options={"k": 2, "steps": "7"}, seed=3, metadata={"ticket": "L-17"}, name="bot"
    )
    assert ("queued", BASE, "bot", 3) == (job.status, job.base, job.name, job.seed)
    options = Options.parse(job.request["options"])
    assert ((2,), 7, 3) == (options.k, options.steps, options.seed)
    digests = {m["reference"]: m["digest"] for m in job.request["members"]}
    expected = {n: read_adapter(gateway.registry, n).versions[0].digest for n in ("zorp", "blim")}
    assert {f"{name}@1": digest for name, digest in expected.items()} == digests
    assert ("best", {"ticket": "L-17"}) == (job.request["serve"], job.request["metadata"])


@pytest.mark.parametrize(
    ("wish", "error", "says"),
    [
        ({"options": {"stepz": 1}}, OptionsInvalid, "did you mean steps"),
        ({"options": {"k": 0}}, OptionsInvalid, "option k"),
        ({"serve": "fresh"}, RequestInvalid, "serve must be one of best, none, recycle"),
        (
            {"serve": "average", "options": {"reality_check": False}},
            RequestInvalid,
            "serve must be",
        ),
        ({"serve": "random_parameters"}, RequestInvalid, "serve must be"),
        ({"name": "Bot"}, NameInvalid, "lower-case"),
        ({"name": BASE}, NameTaken, "belongs to one base"),
        ({"suffix": "!!"}, RequestInvalid, "suffix must have"),
        ({"pool": "rank<"}, FilterInvalid, "number"),
        ({"pool": "status=retired"}, PoolInvalid, "remove `status`"),
        ({"pool": "tag=nothing"}, PoolEmpty, "no adapter"),
        ({"pool": []}, PoolEmpty, "no adapter"),
        ({"pool": ["zorb"]}, UnknownReference, "zorp"),
        ({"pool": [BASE]}, UnknownReference, "demo-llama"),
        ({"options": {"recipe": "cat(zorp)"}}, OptionsInvalid, "method scale"),
        (
            {"options": {"recipe": "zorp", "method": "scale"}},
            RequestInvalid,
            "must be an expression",
        ),
        ({"options": {"recipe": 7, "method": "scale"}}, RequestInvalid, "must be an expression"),
        (
            {"options": {"recipe": "lego()", "method": "scale"}},
            RecipeInvalid,
            "at least one",
        ),
        ({"validation_file": "file-" + "0" * 24}, UnknownFile, "No file"),
        (
            {"validation_file": "file-" + "0" * 24, "options": {"folds": 5}},
            OptionsInvalid,
            "measures on its validation examples if it has any: leave folds out",
        ),
    ],
)
def test_what_can_be_known_beforehand_is_told(
    gateway: Gateway, wish: dict[str, Any], error: type[Exception], says: str
) -> None:
    """Mistakes that are known beforehand are refused, and no job is queued."""
    with pytest.raises(error, match=says):
        queue(gateway, **wish)
    assert () == gateway.registry.jobs.page().items


@pytest.mark.parametrize("serve", ["best", "none", "recycle", "recycle_k5", "average", "base"])
def test_candidates_may_be_picked_beforehand(gateway: Gateway, serve: str) -> None:
    """A job may name its candidate by the name that it will have."""
    assert serve == queue(gateway, serve=serve).request["serve"]


def test_a_recipe_is_an_expression_of_what_the_caller_may_use(
    gateway: Gateway, private: str
) -> None:
    """A recipe's expression is resolved at once for the caller, and its ingredients are the
    pool.
    """
    options = {"recipe": "lego(zorp, blim; rank=8)", "method": "scale"}
    job = queue(gateway, options=options, pool=None)
    recipe = Recipe.parse(job.request["options"]["recipe"])
    digests = {member["digest"] for member in job.request["members"]}
    assert ("lego", digests) == (recipe.method, {item.digest for item in recipe.ingredients})
    stranger = Caller("bob", "publish", "team")
    with pytest.raises(UnknownReference):
        queue(
            gateway, stranger, options={"recipe": f"cat(zorp, {private})", "method": "scale"},
            pool=None,
        )  # fmt: skip


def test_a_pool_is_what_the_caller_may_use(gateway: Gateway, private: str) -> None:
    """A filter leaves out hidden adapters; by name they are unknown."""
    stranger = Caller("bob", "publish", "team")
    assert f"{private}@1" in references(gateway, "", EVERYTHING)
    assert f"{private}@1" not in references(gateway, "", stranger)
    assert f"{private}@1" in references(gateway, "", Caller("o", "publish", "other"))
    with pytest.raises(UnknownReference):
        references(gateway, [private], stranger)


def test_a_pool_holds_what_may_be_served_each_content_once(gateway: Gateway) -> None:
    """A pool omits quarantined adapters, refuses them by name, and counts equal content once."""
    registry = gateway.registry
    zorp = read_adapter(registry, "zorp").versions[0].digest
    registry.adapters.register(gateway.versions.path(zorp), name="zorp-copy")
    assert 8 == len(references(gateway, "", EVERYTHING))
    assert ["zorp@1"] == references(gateway, ["zorp@prod", "zorp-copy", "zorp"], EVERYTHING)
    registry.versions.quarantine(Reference(digest=zorp), "in verse", "t")
    assert 7 == len(references(gateway, "", EVERYTHING))
    with pytest.raises(VersionQuarantined, match="in verse"):
        references(gateway, ["zorp@1"], EVERYTHING)


def test_an_artifact_is_no_member(gateway: Gateway) -> None:
    """A composition cannot be a member, because its adapters are members themselves."""
    recipe = gateway.resolver.plan(_expression("cat(zorp, blim)"))
    gateway.registry.compositions.add(
        "mix", expression="cat(zorp, blim)", recipe_text=recipe.canonical(),
        recipe_digest=recipe.digest(), base=BASE, ingredients=recipe.lineage, actor="t",
    )  # fmt: skip
    with pytest.raises(NotAnIngredient):
        references(gateway, ["mix"], EVERYTHING)


def _expression(text: str) -> Expression:
    parsed = parse_model(text)
    assert isinstance(parsed, Expression)
    return parsed


def test_names_are_in_the_caller_s_namespace(gateway: Gateway) -> None:
    """Generated names are put in the caller's namespace; other names must be in it."""
    caller = Caller("ada", "publish", "team")
    assert queue(gateway, caller).name.startswith("team/ft-")
    assert "team/bot" == queue(gateway, caller, name="team/bot").name
    with pytest.raises(AccessDenied, match="begin with team/"):
        queue(gateway, caller, name="bot")
    assert queue(gateway, suffix="Tax Law (v2)").name.startswith("ft-tax-law-v2-")


def test_files_of_others_cannot_be_used(gateway: Gateway) -> None:
    """A file of another namespace does not exist for the caller."""
    file = send_file(gateway, examples(), Caller("ada", "publish", "team"))
    with pytest.raises(UnknownFile):
        create_job(gateway.resolver, JobRequest(file), Caller("bob", "publish", "other"))
