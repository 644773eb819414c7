"""Whole jobs on the demo's base and adapters, small enough to take seconds."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from merge.adaptive.adapt import Conversation, Outcome, Setting, adapt
from merge.adaptive.candidates import load_measured
from merge.adaptive.context import Measured
from merge.adaptive.model.memory import MemoryTooSmall
from merge.adaptive.options import Options, OptionsInvalid
from merge.adaptive.pool import FileScores, PoolMember
from merge.adaptive.scoring.examples import ExampleInvalid
from merge.adaptive.split import cross_fit, questions_of
from merge.adaptive.training import LossNotFinite, Progress
from merge.peft_format import digest_folder
from merge.recipe import Recipe
from tests.lab.language import TASKS_WITHOUT_ADAPTER, Example

DEMO = Path(__file__).parents[3] / "deploy" / "demo"
BASE = "weft/demo-llama"
SMALL: dict[str, Any] = {
    "k": 4, "steps": 6, "evaluate_every": 3, "batch_size": 4, "fresh_steps": 8, "fresh_rank": 8,
    "fresh_learning_rate": 5e-3, "budget": 4, "longest_answer": 8,
}  # fmt: skip
NAMES = ("blim", "dwen", "frob", "zorp")


class Stopped(Exception):
    """Raised by a test's watch to end a job."""


class Some:
    """A pool with some of the demo's adapters."""

    def __init__(self, names: Sequence[str] = NAMES) -> None:
        self._names = names

    def members(self) -> list[PoolMember]:
        """See `Pool`."""
        folders = [DEMO / "adapters" / name for name in self._names]
        return [PoolMember(f"{f.name}@1", digest_folder(f), f) for f in folders]


def conversation(example: Example) -> Conversation:
    """Return an example as a chat."""
    return [
        {"role": "user", "content": example.prompt},
        {"role": "assistant", "content": example.answer},
    ]


def data(n: int) -> tuple[list[Conversation], list[Conversation]]:
    """Return conversations of a task without an adapter, to learn from and to measure on."""
    task, rng = TASKS_WITHOUT_ADAPTER["wolm"], Random(1)
    train = [conversation(task.draw(rng, "train")) for _ in range(n)]
    return train, [conversation(example) for example in task.prompts(6, 1)]


def setting(**more: Any) -> Setting:
    """Return the setting in which the tests' jobs run."""
    return Setting(str(DEMO / "base"), BASE, device="cpu", dtype="float32", **more)


class Watching:
    """Records a job's events, and ends the job at a given one."""

    def __init__(self, stop_at: tuple[str, int] | None = None) -> None:
        self.steps: list[tuple[str, int]] = []
        self.measured: list[str] = []
        self._stop_at = stop_at

    def __call__(self, event: Progress | Measured) -> None:
        """Record one event."""
        if isinstance(event, Measured):
            self.measured.append(event.candidate)
            return
        self.steps.append((event.stage, event.step))
        if self.steps[-1] == self._stop_at:
            raise Stopped


def run(
    folder: Path, watch: Watching, options: dict[str, Any] | None = None, pool: Some | None = None,
    validated: bool = True, **more: Any,
) -> Outcome:  # fmt: skip
    """Run a small job in a folder."""
    train, validation = data(12)
    folder.mkdir(exist_ok=True)
    return adapt(
        setting(**more), Options.parse(SMALL | (options or {})), pool or Some(), train,
        validation if validated else [],
        scores=FileScores(folder / "scores"), folder=folder, watch=watch,
    )  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Run torch on one thread, so that two runs can be compared bit by bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


CONTROLS = {
    "base", "fresh_lora", "fresh_lora_dropout", "fresh_lora_retuned", "best_single", "average",
    "random_parameters",
}  # fmt: skip


def test_a_job_measures_the_method_and_every_control(tmp_path: Path) -> None:
    """The outcome has figures for the method and all controls, says what to serve and why, and is
    written to the folder."""
    outcome = run(tmp_path / "job", watch := Watching())
    told = outcome.to_json()

    assert {*CONTROLS, "recycle"} == {each["name"] for each in told["candidates"]}
    assert set(watch.measured) == {each["name"] for each in told["candidates"]}
    assert ("too_few", 6, "base") == (told["verdict"], told["questions"], told["best"])
    assert {"folds": 0, "estimate": None, "fold_seconds": 0.0} == told["measured"]
    assert {"fresh_lora", "recycle", "average"} <= {each["ours"] for each in told["comparisons"]}
    assert told == json.loads((tmp_path / "job" / "outcome.json").read_text())
    assert 3 == len(told["selected"])  # k includes the target
    for each in told["candidates"]:
        assert each["figures"]["loss"]["low"] <= each["figures"]["loss"]["value"]
    assert {"weft", "torch", "transformers", "nevergrad"} == told["versions"].keys()


def test_what_is_served_is_what_was_measured(tmp_path: Path) -> None:
    """An exact fold has the losses of the unfolded adapters; its recipe names the digests of the
    pool's members and of the job's target, and the outcome gives the target's folder."""
    told = run(tmp_path / "job", Watching()).to_json()
    by_name = {each["name"]: each for each in told["candidates"]}
    ours, serve = by_name["recycle"], by_name["recycle"]["serve"]
    recipe = Recipe.parse(serve["recipe"])

    assert ours["energy"] is None
    assert ours["folded"]["loss"]["value"] == pytest.approx(
        ours["figures"]["loss"]["value"], abs=1e-4
    )
    (own,) = serve["adapters"].items()
    assert own[0] == digest_folder(tmp_path / "job" / own[1])
    chosen = {each["digest"] for each in told["selected"]}
    assert {item.digest for item in recipe.ingredients} == {own[0], *chosen}
    assert {"kind": "adapter", "folder": "candidates/fresh_lora"} == by_name["fresh_lora"]["serve"]
    assert "nothing" == by_name["random_parameters"]["serve"]["kind"]


FOLDED = {"folds": 2, "reality_check": False, "k": [2, 3], "longest_answer": 2}
TWO = Some(("blim", "frob"))


@pytest.fixture(scope="module")
def cross_fitted(
    one_thread: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """The folder and the outcome of a job of two folds that was never stopped."""
    folder = tmp_path_factory.mktemp("folds") / "job"
    return folder, run(folder, Watching(), FOLDED, TWO, validated=False).to_json()


def test_every_example_measures_what_has_not_seen_it(
    cross_fitted: tuple[Path, dict[str, Any]],
) -> None:
    """With folds every example has a mark of each candidate, by a training without it, and what is
    served was trained on all of them, to the lower median of the folds' best steps."""
    folder, told = cross_fitted
    read = load_measured(folder)
    assert read is not None
    by_name = {each.name: each for each in read[0]}
    rounds = [json.loads((folder / "folds" / f"{n}.json").read_text()) for n in (1, 2)]
    steps = [
        next(each["best_step"] for each in one["candidates"] if each["name"] == "fresh_lora")
        for one in rounds
    ]
    split = cross_fit(questions_of(data(12)[0]), 2, seed=0)
    (first,) = (each for each in rounds[0]["candidates"] if each["name"] == "fresh_lora")

    assert {"base", "fresh_lora", "recycle_k2", "recycle_k3", "recycle"} == set(by_name)
    assert {12} == {len(each.judged.nll) for each in by_name.values()}
    assert [by_name["fresh_lora"].scored.nll[at] for at in split[0].tests] == first["scored"]["nll"]
    assert min(steps) == by_name["fresh_lora"].best_step
    assert by_name["fresh_lora"].refit not in (None, by_name["fresh_lora"].judged)
    assert (folder / by_name["fresh_lora"].to_json()["serving"]["folder"]).is_dir()
    assert (2, True) == (told["measured"]["folds"], told["measured"]["fold_seconds"] > 0)
    assert ["1.json", "2.json"] == sorted(each.name for each in (folder / "folds").iterdir())


def test_the_method_is_the_choice_of_a_size(
    cross_fitted: tuple[Path, dict[str, Any]],
) -> None:
    """Of several k each fold takes the best by the examples that choose; the marks of the method
    are those of its choices, and what it serves is the best size over the folds."""
    folder, told = cross_fitted
    rounds = [json.loads((folder / "folds" / f"{n}.json").read_text()) for n in (1, 2)]
    for one in rounds:
        sizes = {each["name"]: each for each in one["candidates"] if each["name"] in one["sizes"]}
        (ours,) = (each for each in one["candidates"] if each["name"] == "recycle")
        best = min(sizes.values(), key=lambda each: each["choice_loss"])
        assert (best["name"], best["scored"]) == (ours["detail"]["is"], ours["scored"])
    mean = {
        name: sum(
            each["choice_loss"] for one in rounds for each in one["candidates"]
            if each["name"] == name
        )
        for name in ("recycle_k2", "recycle_k3")
    }  # fmt: skip
    by_name = {each["name"]: each for each in told["candidates"]}
    assert min(mean, key=lambda name: mean[name]) == by_name["recycle"]["detail"]["is"]
    assert "recycle" == told["main"]


@pytest.mark.parametrize(
    "stop_at",
    [("evaluation", 2), ("recycle_k2, fold 2 of 2", 4), ("fresh_lora, all", 4)],
    ids=lambda stop_at: stop_at[0],
)
def test_a_stopped_job_of_folds_goes_on(
    stop_at: tuple[str, int], cross_fitted: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """A stopped job that is run again on its folder learns no finished fold again, resumes a
    training from its last evaluation, and has the outcome of a job that was never stopped."""
    with pytest.raises(Stopped):
        run(tmp_path / "job", first := Watching(stop_at), FOLDED, TWO, validated=False)
    again = run(tmp_path / "job", second := Watching(), FOLDED, TWO, validated=False).to_json()

    done = {stage for stage, _ in first.steps if "fold 1" in stage}
    assert "evaluation" == stop_at[0] or not done & {stage for stage, _ in second.steps}
    assert "evaluation" == stop_at[0] or (stop_at[0], 1) not in second.steps
    assert not first.measured
    assert timeless(cross_fitted[1]) == timeless(again)


@pytest.mark.parametrize(
    "options",
    [{"method": "scale", "k": 2}, {"method": "lorahub", "k": 2, "target": False}],
    ids=lambda options: options["method"],
)
def test_every_method_can_be_cross_fitted(options: dict[str, Any], tmp_path: Path) -> None:
    """A method without steps is marked by folds, too, and served as learned on all examples, at the
    lower median of the folds' scales."""
    told = run(tmp_path / "job", Watching(), FOLDED | options, TWO, validated=False).to_json()
    rounds = [json.loads((tmp_path / "job" / "folds" / f"{n}.json").read_text()) for n in (1, 2)]
    factors = [one["candidates"][-1]["detail"].get("factor") for one in rounds]
    main = told["candidates"][-1]

    assert (12, options["method"]) == (told["questions"], main["name"])
    assert "recipe" == main["serve"]["kind"]
    assert factors == [None, None] or min(factors) == main["detail"]["factor"]


def test_what_a_release_without_plans_left_is_measured_anew(tmp_path: Path) -> None:
    """A folder with candidates and no plan is of an older release, whose split was another."""
    left = tmp_path / "job" / "candidates" / "base.json"
    left.parent.mkdir(parents=True)
    left.write_text("{}")
    options = {"reality_check": False, "target": False, "k": 1, "steps": 2}
    told = run(tmp_path / "job", Watching(), options, Some(("blim",))).to_json()

    assert 6 == told["questions"]


def timeless(told: dict[str, Any]) -> dict[str, Any]:
    """Return an outcome without its times."""
    candidates = [{**each, "seconds": 0} for each in told["candidates"]]
    measured = {**told["measured"], "fold_seconds": 0}
    return {**told, "seconds": {}, "candidates": candidates, "measured": measured}


@pytest.mark.parametrize(
    "options",
    [
        {"method": "lorahub"},
        {"method": "lorahub", "cross_terms": True, "target": False},
        {"method": "scale", "static": "ties"},
        {"granularity": "rank", "target": False},
        {"activation": "softmax", "selection": "random", "k": [2, 3]},
        {"selection": "weights", "reality_check": False},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_every_way_of_adapting_ends_in_something_to_serve(
    options: dict[str, Any], tmp_path: Path
) -> None:
    """Each method and selection gives a candidate that is served as it was measured, and the
    control at random is learned over the same numbers of adapters."""
    told = run(tmp_path / "job", Watching(), options, Some(("blim", "frob", "zorp"))).to_json()
    main = next(each for each in told["candidates"] if each["name"] == told["main"])

    redrawn, sizes = (
        {
            path.stem.removeprefix(name)
            for path in (tmp_path / "job" / "candidates").glob(f"{name}*.json")
        }
        for name in ("random_parameters", told["method"])
    )
    assert redrawn in (set(), sizes)
    assert main["name"] == told["method"]
    assert main["serve"]["kind"] in ("recipe", "adapter")
    assert main["folded"]["loss"]["value"] == pytest.approx(
        main["figures"]["loss"]["value"], abs=1e-3
    )


def test_members_are_measured_once_for_a_task(tmp_path: Path) -> None:
    """A second job on the same examples reuses the scores of the pool's members."""
    train, validation = data(12)
    scores = FileScores(tmp_path / "scores")
    asked: list[str] = []

    class Counting(FileScores):
        def put(self, task: str, digest: str, score: Any) -> None:
            asked.append(digest)
            scores.put(task, digest, score)

        def get(self, task: str, digest: str) -> Any:
            return scores.get(task, digest)

    options = Options.parse(SMALL | {"reality_check": False, "target": False, "k": 2})
    for job in ("one", "two"):
        (tmp_path / job).mkdir()
        adapt(
            setting(), options, Some(), train, validation, scores=Counting(tmp_path),
            folder=tmp_path / job, watch=Watching(),
        )  # fmt: skip

    assert 4 == len(asked) == len(set(asked))


def test_too_little_memory_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    """A job without enough memory is refused with the memory that is needed and free."""
    with pytest.raises(MemoryTooSmall, match=r"needs at least \d+\.\d\d GiB and 0.00 GiB are free"):
        run(tmp_path / "job", Watching(), memory_bytes=1000)


def test_a_training_that_explodes_says_where(tmp_path: Path) -> None:
    """If the loss becomes infinite or NaN, the error names the stage and the step."""
    with pytest.raises(LossNotFinite, match=r"fresh_lora: .* at step \d+"):
        run(tmp_path / "job", Watching(), {"fresh_learning_rate": 1e30})


def test_an_example_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """An example longer than the limit is refused, not truncated."""
    with pytest.raises(ExampleInvalid, match="tokens, the limit is 10"):
        run(tmp_path / "job", Watching(), {"longest": 10})


def test_an_empty_pool_is_refused_unless_there_is_a_target(tmp_path: Path) -> None:
    """A job with neither a pool nor a target is refused."""
    with pytest.raises(OptionsInvalid, match="the pool is empty"):
        run(tmp_path / "job", Watching(), {"target": False}, Some(()))
