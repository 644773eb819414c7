"""The end of a job: publishing, serving and the report."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from merge.adaptive.candidates import Candidate, Serving, dump_measured
from merge.adaptive.scoring.scored import Scored
from registry.callers import Caller
from registry.references import Reference
from registry.storage.blobs import LocalBlobs
from registry.storage.columns import now
from registry.types import Registration
from registry.versions.canaries import CanaryFailure, CanaryResult
from server.artifacts.canary import CanaryFailed
from server.gateway import Gateway
from server.jobs import engine_scorer
from server.jobs.as_served import as_served
from server.jobs.finish import Finished
from tests.reading import read_adapter, read_composition
from tests.server.conftest import BASE
from tests.server.jobs.conftest import MakeOutcome, learned, queue
from tests.server.jobs.engine import LOGPROB, ScoringEngine

Finish = Callable[..., Awaitable[Finished]]


@pytest.fixture
def finish(gateway: Gateway, make_outcome: MakeOutcome, fresh: Path) -> Finish:
    """Finish a job with an outcome; `before` runs after the job's creation."""

    async def run(
        outcome: Mapping[str, Any] | None = None,
        before: Callable[[], object] = lambda: None,
        **wish: Any,
    ) -> Finished:
        job = queue(gateway, **wish)
        found = outcome or make_outcome()
        learned(gateway, job, found, fresh)
        before()
        try:
            return await gateway.finisher.finish(job, found, _quiet)
        finally:
            await gateway.builder.stop()

    return run


async def _quiet(_: str) -> None:
    pass


def by_name(finished: Finished) -> dict[str, Any]:
    """Return a report's candidates by name."""
    return {item["name"]: item for item in finished.report["candidates"]}


async def test_the_best_is_folded_served_and_published(finish: Finish, gateway: Gateway) -> None:
    """A recipe becomes a loaded composition, and served figures are beside learned ones."""
    finished = await finish(name="bot")
    assert ("bot@1", None) == (finished.model, finished.failure)
    version = read_composition(gateway.registry, "bot").versions[0]
    assert "recycle(zorp@1, blim@1) of ftjob-" in version.expression
    served = by_name(finished)["recycle"]["served"]
    (engine,) = gateway.bases.default.fleet.engines
    assert isinstance(engine, ScoringEngine)
    assert [served["artifact"]] == engine.loads
    assert -LOGPROB == served["figures"]["loss"]["value"]
    assert 1.0 == served["figures"]["exact_match"]["value"]
    assert 0.4 == pytest.approx(served["difference"]["exact_match"])
    assert finished.report["served"] is None
    assert {"candidate": "recycle", "model": "bot@1"} == finished.report["published"]


async def test_prompts_of_a_job_meet_no_others_in_the_prefix_cache(
    finish: Finish, engine: ScoringEngine, gateway: Gateway
) -> None:
    """Requests of a job have the salt of its owner, as that owner's chats have."""
    owner = Caller("ci", "publish", "team")
    await finish(caller=owner, name="team/bot")
    own = await gateway.salts.of(Caller("another key", "chat", "team"))
    assert {own} == {body["cache_salt"] for body in engine.bodies}


async def test_requests_are_one_at_a_time_and_of_one_kind(
    finish: Finish, engine: ScoringEngine
) -> None:
    """All log-probabilities are requested first, then all answers, greedily and from token ids."""
    await finish()
    kinds = ["prompt_logprobs" in body for body in engine.bodies]
    assert [True, True, False, False] == kinds
    assert {0} == {body["temperature"] for body in engine.bodies}
    assert 0 == engine.running.total()


async def test_the_pick_is_published(finish: Finish, gateway: Gateway) -> None:
    """An adapter that the job made becomes a version, and is scored."""
    finished = await finish(serve="fresh_lora", name="bot")
    assert "bot@1" == finished.model
    version = read_adapter(gateway.registry, "bot").versions[0]
    assert str(version.source).startswith("job:ftjob-")
    assert version.digest == by_name(finished)["fresh_lora"]["served"]["artifact"]
    assert by_name(finished)["recycle"]["served"] is not None


async def test_the_base_needs_no_name(finish: Finish, gateway: Gateway) -> None:
    """If the base is best, the base is the result."""
    finished = await finish(serve="base", name="bot")
    assert BASE == finished.model
    assert "bot" not in {model.id for model in gateway.registry.catalogue.models()}


async def test_none_leaves_the_registry_as_it_is(finish: Finish, gateway: Gateway) -> None:
    """With `none` the report is stored and nothing is published."""
    before = gateway.registry.catalogue.models()
    finished = await finish(serve="none")
    assert (None, None, None) == (finished.model, finished.failure, finished.report["published"])
    assert by_name(finished)["recycle"]["served"] is not None
    assert before == gateway.registry.catalogue.models()


async def test_the_job_s_own_adapters_are_registered_with_a_recipe(
    finish: Finish, gateway: Gateway, make_outcome: MakeOutcome
) -> None:
    """A recipe's fresh LoRA is registered under a derived name; with `none` it is not."""
    outcome = make_outcome()
    serve = next(c["serve"] for c in outcome["candidates"] if c["name"] == "recycle")
    serve["adapters"] = {"0" * 64: "candidates/fresh_lora"}
    finished = await finish(outcome, serve="none", name="bot")
    assert "serve is none" in str(finished.report["served"])
    finished = await finish(outcome, name="bot")
    assert "bot@1" == finished.model
    assert 1 == len(read_adapter(gateway.registry, "bot-fresh-lora").versions)


def retire(gateway: Gateway) -> None:
    """Retire zorp after its alias is removed."""
    registered: Registration = gateway.registry.adapters.register(
        gateway.versions.path(read_adapter(gateway.registry, "blim").versions[0].digest),
        name="zorp",
    )
    gateway.registry.versions.set_alias("zorp", "prod", registered.version.number, "test")
    gateway.registry.versions.retire(Reference(name="zorp", version=1), "test")


async def test_a_member_that_was_retired_takes_its_candidates_with_it(
    finish: Finish, gateway: Gateway
) -> None:
    """Candidates with a retired member are skipped, the next best is published, and the message
    says why.
    """
    finished = await finish(before=lambda: retire(gateway), name="bot")
    assert "bot@1" == finished.model
    assert "zorp@1 was retired" in by_name(finished)["recycle"]["unservable"]
    assert {"candidate": "fresh_lora", "model": "bot@1"} == finished.report["published"]
    assert "fresh_lora" == finished.report["best"]
    assert "recycle did best and cannot be served" in finished.report["sentence"]
    assert "serve fresh_lora" in finished.report["sentence"]


async def test_a_policy_takes_the_candidates_of_a_denied_pair(
    finish: Finish, gateway: Gateway
) -> None:
    """A candidate whose members a policy keeps apart is neither served nor published."""

    def deny() -> None:
        pair = ["adapter:zorp", "adapter:blim"]
        gateway.registry.access.policies.add("deny", pair, reason="not tested")

    finished = await finish(before=deny, name="bot")
    assert "denies merging zorp@1 and blim@1" in by_name(finished)["recycle"]["unservable"]
    assert {"candidate": "fresh_lora", "model": "bot@1"} == finished.report["published"]


async def test_a_candidate_that_fails_the_canary_gets_no_name(
    finish: Finish, gateway: Gateway, versions: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge that fails the operator's canary is not published; the next candidate is."""
    failed = CanaryResult("c" * 64, 1, (CanaryFailure(1, "a refusal", "Sure!"),), 0.1, now())

    async def vouch(digest: str, _base: str) -> None:
        if not versions.has(digest):
            raise CanaryFailed(digest, failed)

    monkeypatch.setattr(gateway.provider, "vouch", vouch)
    finished = await finish(name="bot")
    assert "does not pass the server's canary" in by_name(finished)["recycle"]["unservable"]
    assert {"candidate": "fresh_lora", "model": "bot@1"} == finished.report["published"]


async def test_nothing_left_fails_and_names_the_member(
    finish: Finish, gateway: Gateway, make_outcome: MakeOutcome
) -> None:
    """If no candidate can be served, the job fails with the member's name and keeps its report."""
    only = [c for c in make_outcome()["candidates"] if c["name"] == "recycle"]
    outcome = make_outcome(candidates=only, ranked=["recycle"])
    finished = await finish(outcome, before=lambda: retire(gateway))
    assert finished.failure is not None
    assert "not_servable" == finished.failure.code
    assert "zorp@1 was retired" in finished.failure.message
    assert finished.report["candidates"]


async def test_a_pick_that_cannot_be_served_fails(finish: Finish, gateway: Gateway) -> None:
    """A picked candidate that cannot be served fails the job; no other replaces it."""
    finished = await finish(before=lambda: retire(gateway), serve="recycle")
    assert finished.failure is not None
    assert "recycle cannot be served" in finished.failure.message


def marks(right: int, n: int = 20, nats: float = 0.5) -> Scored:
    """Return scores of n examples, the first ones right."""
    return Scored((nats,) * n, (1,) * n, tuple(at < right for at in range(n)), None)


def test_what_the_engine_loses_is_lost() -> None:
    """Where folds measured, an answer of what is served that the engine does not give is taken off
    the marks, none is added, and nats differ as much; otherwise the engine's answers count."""
    own = Candidate("recycle", "", marks(2, 4), Serving("recipe"), refit=marks(3, 4, nats=0.1))
    engine = Scored((0.3, 0.1, 0.1, 0.1), (1,) * 4, (False, True, False, True), None)
    worth = as_served(own, engine)

    assert (False, True, False, False) == worth.exact_match
    assert (0.7, 0.5, 0.5, 0.5) == pytest.approx(worth.nll)
    assert engine == as_served(replace(own, refit=None), engine)


async def test_what_the_engine_does_not_answer_is_not_served(
    gateway: Gateway, make_outcome: MakeOutcome, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A candidate that was better in the job and is not as served is not published: the next that
    is better than the base is, and the sentence is about that."""
    job, outcome = queue(gateway, name="bot"), make_outcome()
    learned(gateway, job, outcome, fresh)
    candidates = (
        Candidate("base", "", marks(0, nats=9.0), Serving("base")),
        Candidate("fresh_lora", "", marks(12), Serving("adapter", folder="x")),
        Candidate("recycle", "", marks(20), Serving("recipe")),
        Candidate("random_parameters", "", marks(20), Serving("nothing", reason="noise")),
    )  # fmt: skip
    dump_measured(gateway.storage.folder(job.id), candidates, range(20))

    async def answers(_engine: object, model: str, *_: object, **__: object) -> Scored:
        is_merge = not gateway.versions.has(model)
        return marks(0 if is_merge else 12)

    monkeypatch.setattr(engine_scorer, "score", answers)
    finished = await gateway.finisher.finish(job, outcome, _quiet)
    await gateway.builder.stop()

    assert ["fresh_lora", "base"] == finished.report["order"]
    assert {"candidate": "fresh_lora", "model": "bot@1"} == finished.report["published"]
    assert finished.report["sentence"].startswith("the fresh LoRA is better than recycle")
    served = by_name(finished)["recycle"]["served"]
    assert (0.0, -0.6) == pytest.approx(
        (served["figures"]["exact_match"]["value"], served["difference"]["exact_match"])
    )


async def test_a_job_that_an_older_release_learned_is_finished(
    finish: Finish, make_outcome: MakeOutcome
) -> None:
    """An outcome without an order has its best candidate published, and no verdict is added."""
    outcome = make_outcome()
    for name in ("order", "verdict", "questions", "measured", "comparisons"):
        del outcome[name]
    finished = await finish(outcome, name="bot")
    assert {"candidate": "recycle", "model": "bot@1"} == finished.report["published"]
    assert "verdict" not in finished.report


@pytest.mark.parametrize("main", ["recycle", "base"])
async def test_what_the_engine_refuses_gets_no_name(
    finish: Finish, engine: ScoringEngine, make_outcome: MakeOutcome,
    monkeypatch: pytest.MonkeyPatch, main: str,
) -> None:  # fmt: skip
    """If the engine refuses a candidate, the next best is published, and the report has the
    refusal.
    """

    async def load(digest: str) -> None:
        engine.refuse.update({} if engine.refuse else {digest: "too odd"})
        await ScoringEngine.load(engine, digest)

    monkeypatch.setattr(engine, "load", load)
    finished = await finish(make_outcome(main=main), name="bot")
    assert "too odd" in by_name(finished)["recycle"]["unservable"]
    assert {"candidate": "fresh_lora", "model": "bot@1"} == finished.report["published"]


async def test_an_engine_that_leaves_things_out_is_told(
    finish: Finish, engine: ScoringEngine
) -> None:
    """Incomplete answers of the engine are reported, and the candidate is published."""
    engine.silent = True
    finished = await finish(name="bot")
    assert "bot@1" == finished.model
    assert "left log-probabilities out" in str(finished.report["served"])


async def test_a_name_of_another_kind_is_made_another(finish: Finish, gateway: Gateway) -> None:
    """If the name belongs to an adapter, the composition gets another name."""
    finished = await finish(name="krun")
    assert "krun-recycle@1" == finished.model


async def test_a_namespace_keeps_its_results(finish: Finish, gateway: Gateway) -> None:
    """The result of a namespaced caller is named in the namespace and private to it."""
    caller = Caller("ada", "publish", "team")
    finished = await finish(caller=caller, suffix="My Bot!")
    assert str(finished.model).startswith("team/ft-my-bot-")
    mine = {model.id for model in gateway.registry.catalogue.models(caller=caller)}
    others = Caller("bob", "publish", "other")
    theirs = {model.id for model in gateway.registry.catalogue.models(caller=others)}
    assert str(finished.model).partition("@")[0] in mine - theirs


async def test_finishing_again_gives_the_same(
    gateway: Gateway, make_outcome: MakeOutcome, fresh: Path
) -> None:
    """Finishing twice, as after a gateway's death, creates no second version."""
    job = queue(gateway, serve="fresh_lora", name="bot")
    learned(gateway, job, make_outcome(), fresh)
    finished = [await gateway.finisher.finish(job, make_outcome(), _quiet) for _ in range(2)]
    await gateway.builder.stop()
    assert ["bot@1", "bot@1"] == [item.model for item in finished]


async def test_without_an_engine_the_report_says_so(
    gateway: Gateway, make_outcome: MakeOutcome, fresh: Path
) -> None:
    """Without an engine the candidate is folded and published, and the report says so."""
    gateway.finisher = gateway.finisher.without_engines("There is none.")
    job = queue(gateway)
    learned(gateway, job, make_outcome(), fresh)
    finished = await gateway.finisher.finish(job, make_outcome(), _quiet)
    await gateway.builder.stop()
    assert "there is no engine" in str(finished.report["served"])
    assert finished.model is not None
