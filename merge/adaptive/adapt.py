"""A whole job: from examples and a pool to measured candidates, and the one to serve.

The examples are split, every candidate is learned with each fold left out and once more, or once
with some questions spared, and judged. Finished stages are kept in the job's folder, and a training
at each evaluation, so that the same call on the same folder goes on where the last one ended, with
the numbers that it would have had.
Not covered: the sources of pool and examples, processes, serving (the caller's).
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

from merge.adaptive import controls as reality
from merge.adaptive.candidates import OUTCOME, TESTS, Candidate, dump_measured
from merge.adaptive.context import CANDIDATES, CHECKPOINTS, JobContext, Setting, Watch
from merge.adaptive.crossfit import Bench, cross_fitted
from merge.adaptive.methods.recycle import schedule_of
from merge.adaptive.model.base import (
    Loaded,
    device_of,
    load_base,
    load_tokenizer,
    memory_budget,
)
from merge.adaptive.options import Options, OptionsInvalid
from merge.adaptive.plan import Plan, decide, time_of_step
from merge.adaptive.pool import Pool, PoolMember, ScoreMemory
from merge.adaptive.scoring.answers import occurs
from merge.adaptive.scoring.examples import (
    Example,
    ExampleInvalid,
    Message,
    dump_examples,
    encode_all,
)
from merge.adaptive.scoring.losses import answer_tokens
from merge.adaptive.scoring.scorer import Scorer, TorchScorer
from merge.adaptive.selection import Chosen, text_similarity
from merge.adaptive.split import Round, cross_fit, measured_on, numbered, questions_of, spare
from merge.adaptive.stages import Staged
from merge.adaptive.training import tokens_shown
from merge.adaptive.verdict import Verdict, judge
from merge.methods import find_method
from merge.peft_format import open_folder
from merge.peft_format.atomic_files import write_atomic
from merge.recipe import Recipe

__all__ = ["Conversation", "Outcome", "Setting", "Watch", "adapt"]

Conversation: TypeAlias = Sequence[Message]
MakeScorer: TypeAlias = Callable[[Loaded, Options], Scorer]
_PACKAGES = ("weft", "torch", "transformers", "nevergrad")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished job.

    Attributes:
        options, setting: of the job.
        task: digest of the examples that learnings may see.
        main: the name of the method's own candidate.
        plan: how it was measured.
        fold_seconds: what that took where there were folds.
        verdict: what to serve and why.
        candidates: in the order in which they were measured.
        selected: what was chosen from the pool for what is served, best first.
        trained_tokens: tokens that the method's training read, its target LoRA's and every fold's
            included and the controls' excluded.
    """

    options: Options
    setting: Setting
    task: str
    main: str
    plan: Plan
    fold_seconds: float
    verdict: Verdict
    candidates: tuple[Candidate, ...]
    selected: tuple[Chosen, ...]
    trained_tokens: int

    def to_json(self) -> dict[str, Any]:
        """Return the content of a report as JSON values."""
        seed = self.options.seed
        return {
            "task": self.task, "method": self.options.method, "main": self.main,
            **self.verdict.to_json(), "seed": seed,
            "measured": {**self.plan.to_json(), "fold_seconds": self.fold_seconds},
            "options": self.options.to_json(),
            "versions": {name: version(name) for name in _PACKAGES},
            "trained_tokens": self.trained_tokens,
            "selected": [
                {"reference": c.member.reference, "digest": c.member.digest, "score": c.score}
                for c in self.selected
            ],
            "seconds": {candidate.name: candidate.seconds for candidate in self.candidates},
            "candidates": [candidate.reported(seed=seed) for candidate in self.candidates],
        }  # fmt: skip


def torch_scorer(base: Loaded, options: Options) -> Scorer:
    """Return a scorer on the base that this process has loaded."""
    return TorchScorer(
        base.model, base.tokenizer, pattern=options.pattern, longest_answer=options.longest_answer
    )


def adapt(
    setting: Setting,
    options: Options,
    pool: Pool,
    examples: Sequence[Conversation],
    validation: Sequence[Conversation],
    *,
    scores: ScoreMemory,
    folder: Path,
    watch: Watch,
    scorer: MakeScorer = torch_scorer,
) -> Outcome:
    """Run a job, or resume it; `folder/outcome.json` then holds the outcome.

    Args:
        setting: the base, the device and the form of the results.
        options: of the job.
        pool: the adapters to choose from.
        examples: conversations to learn from, with at least three different questions.
        validation: conversations that only measure; empty where `examples` are to be split.
        scores: known scores of pool members on this task.
        folder: of this job alone.
        watch: called at every step and for every candidate; an exception from it ends the job.
        scorer: returns the scorer for a loaded base.

    Raises:
        OptionsInvalid: the options do not fit the pool or the examples.
        NoComparison: the pool cannot be ordered by the requested selection.
        ExampleInvalid: examples cannot be trained on; the message names them.
        MemoryTooSmall: before anything is loaded, if no k members would fit; otherwise after the
            selection.
        LossNotFinite: names the step; the last good checkpoint is kept.
        merge.errors.MergeError, FormatError: a recipe or an adapter cannot be used.
        OSError: the disk is full or gone, or the base cannot be read.
    """
    members = pool.members()
    tokenizer = load_tokenizer(setting.model)
    encoded = _encoded(tokenizer, examples, options, "training")
    encoded += _encoded(tokenizer, validation, options, "validation") if validation else []
    _check_request(options, members, encoded)
    device, rank = device_of(setting.device), min(options.fresh_rank, setting.rank_limit)
    memory = memory_budget(
        setting.model, device, options, fresh_rank=rank,
        lengths=[len(example.tokens) for example in encoded],
        answers=[answer_tokens(example) for example in encoded], allowed=setting.memory_bytes,
    )  # fmt: skip
    memory.check([open_folder(each.path) for each in members], max(options.k) - options.targeted)
    base = Loaded(load_base(setting.model, device), tokenizer)
    bench = Bench(
        setting=setting, options=options, model=base.model, scorer=scorer(base, options),
        examples=encoded, members=members, scores=scores, memory=memory, folder=folder, watch=watch,
    )  # fmt: skip
    plan = Plan.load(folder) or _begun(
        bench, decide(
            options, len(examples), validated=bool(validation),
            step_seconds=lambda: time_of_step(base.model, encoded, options, rank),
        ),
    )  # fmt: skip
    outcome = _run(bench, plan, questions_of(examples), questions_of(validation))
    write_atomic(folder / OUTCOME, json.dumps(outcome.to_json(), indent=1))
    return outcome


def _begun(bench: Bench, plan: Plan) -> Plan:
    """Return the plan of a job that begins; what a release without plans left is measured anew."""
    for name in (CANDIDATES, CHECKPOINTS):
        shutil.rmtree(bench.folder / name, ignore_errors=True)
    plan.save(bench.folder)
    return plan


def _run(bench: Bench, plan: Plan, questions: list[str], validation: list[str]) -> Outcome:
    """Learn, measure and judge."""
    options, seed = bench.options, bench.options.seed
    rounds = _rounds(plan, questions, validation, seed)
    tested = sorted(at for parts in rounds for at in parts.tests)
    shown = sorted({at for parts in rounds for at in parts.shown})
    tests = [bench.examples[at] for at in tested]
    write_atomic(bench.folder / TESTS, dump_examples(tests))  # read by the engine's scorer
    evaluation = bench.evaluation(shown)
    if plan.folds:
        staged = cross_fitted(bench, rounds, evaluation)
    else:
        staged = bench.staged(bench.context(rounds[0]), rounds[0], evaluation)
    asked = [[*questions, *validation][at] for at in tested]
    numbers = numbered(asked)
    dump_measured(bench.folder, staged.candidates, numbers)
    verdict = judge(staged.candidates, options.method, questions=numbers, seed=seed)
    return Outcome(
        options, bench.setting, evaluation.task, options.method, plan, staged.fold_seconds, verdict,
        staged.candidates, staged.selected, _trained_tokens(bench, plan, rounds, staged),
    )  # fmt: skip


def _rounds(
    plan: Plan, questions: Sequence[str], validation: Sequence[str], seed: int
) -> tuple[Round, ...]:
    if plan.folds:
        return cross_fit(questions, plan.folds, seed=seed)
    if validation:
        return (measured_on(questions, validation, seed=seed),)
    return (spare(questions, seed=seed),)


def _trained_tokens(bench: Bench, plan: Plan, rounds: Sequence[Round], staged: Staged) -> int:
    """Return the tokens that the method's trainings read, their target LoRAs' included."""
    everything = [(*range(len(bench.examples)),)] if plan.folds else []
    return sum(
        _tokens_of(bench.context(Round(train, (), ())), len(staged.sizes))
        for train in (*(parts.train for parts in rounds), *everything)
    )


def _tokens_of(context: JobContext, times: int) -> int:
    """Return the tokens that `times` trainings of the method read."""
    options, train = context.options, context.train
    target = tokens_shown(train, reality.fresh_schedule(context)) if options.targeted else 0
    match options.method:
        case "recycle":
            return target + times * tokens_shown(train, schedule_of(context))
        case "lorahub":
            once = sum(len(each.tokens) for each in train)
            return target + times * options.budget * once
        case "scale":
            return 0


def _check_request(
    options: Options, members: Sequence[PoolMember], examples: Sequence[Example]
) -> None:
    """Check the options against pool and examples before hours of work.

    Raises:
        OptionsInvalid, NoComparison, merge.errors.MergeError: see `adapt`.
    """
    if options.recipe is not None:
        known = {each.digest for each in members}
        for item in Recipe.parse(options.recipe).ingredients:
            if item.digest not in known:
                raise OptionsInvalid(f"the recipe's ingredient {item.digest} is not in the pool")
    elif not members and not options.targeted:
        raise OptionsInvalid(
            "the pool is empty: add adapters of the base to it, or set target=true"
        )
    elif options.selection == "text":
        for each in members:
            text_similarity(each)
    if options.method == "scale" and options.recipe is None:
        find_method(options.static).bind(options.static_options)
    pattern = options.pattern
    if pattern is not None and not any(occurs(pattern, each.answer) for each in examples):
        raise OptionsInvalid(
            f"option pattern: {pattern!r:.80} matches no answer of the examples, so "
            "every generated answer without a match would count as correct: correct the pattern"
        )


def _encoded(
    tokenizer: Any, conversations: Sequence[Conversation], options: Options, what: str
) -> list[Example]:
    try:
        return encode_all(tokenizer, conversations, longest=options.longest)
    except ExampleInvalid as error:
        raise ExampleInvalid(f"{what} examples: {error}") from error
