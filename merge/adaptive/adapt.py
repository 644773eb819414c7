"""A whole job: from examples and a pool to measured candidates, and the one to serve.

base → fresh LoRA → selection → the method, for each k → controls → verdict. Every stage is kept in
the job's folder when it is done, and a training at each evaluation, so that the same call on the
same folder goes on where the last one ended, with the numbers that it would have had.
Not covered: the sources of pool and examples, processes, serving (the caller's).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

from merge.adaptive import controls as reality
from merge.adaptive.candidates import OUTCOME, VALIDATION, Candidate
from merge.adaptive.context import AdapterRef, JobContext, Setting, Watch
from merge.adaptive.methods.fold import Ingredients
from merge.adaptive.methods.learn import learn
from merge.adaptive.methods.recycle import schedule_of
from merge.adaptive.methods.scale import scale
from merge.adaptive.model.base import (
    Loaded,
    MemoryBudget,
    device_of,
    load_base,
    load_tokenizer,
    memory_budget,
)
from merge.adaptive.options import Options, OptionsInvalid
from merge.adaptive.pool import MemberScore, Pool, PoolMember, ScoreMemory
from merge.adaptive.scoring.answers import occurs
from merge.adaptive.scoring.examples import (
    Example,
    ExampleInvalid,
    Message,
    dump_examples,
    encode_all,
)
from merge.adaptive.scoring.scorer import Scorer, TorchScorer
from merge.adaptive.selection import Chosen, cosine, select, text_similarity
from merge.adaptive.training import Progress, tokens_shown
from merge.adaptive.verdict import Verdict, judge
from merge.methods import find_method
from merge.peft_format import open_folder
from merge.peft_format.atomic_files import write_atomic
from merge.recipe import Recipe
from merge.sketch import sketch

__all__ = ["Conversation", "Outcome", "Setting", "Watch", "adapt"]

Conversation: TypeAlias = Sequence[Message]
MakeScorer: TypeAlias = Callable[[Loaded, Options], Scorer]
_PACKAGES = ("weft", "torch", "transformers", "nevergrad")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished job.

    Attributes:
        options, setting: of the job.
        task: digest of the training examples.
        main: the name of the method's own candidate.
        verdict: what to serve and why.
        candidates: in the order in which they were measured.
        selected: what was chosen from the pool, best first.
        trained_tokens: tokens that the method's training read, its target LoRA's included and
            the controls' excluded.
    """

    options: Options
    setting: Setting
    task: str
    main: str
    verdict: Verdict
    candidates: tuple[Candidate, ...]
    selected: tuple[Chosen, ...]
    trained_tokens: int

    def to_json(self) -> dict[str, Any]:
        """Return the content of a report as JSON values."""
        seed = self.options.seed
        return {
            "task": self.task, "method": self.options.method, "main": self.main,
            "metric": self.verdict.metric, "ranked": list(self.verdict.ranked),
            "best": self.verdict.best, "sentence": self.verdict.sentence, "seed": seed,
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
    train: Sequence[Conversation],
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
        train: conversations to learn from; at least one.
        validation: conversations to measure on; at least one.
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
    learned = _encoded(tokenizer, train, options, "training")
    measured = _encoded(tokenizer, validation, options, "validation")
    write_atomic(folder / VALIDATION, dump_examples(measured))  # read by the engine's scorer
    _check_request(options, members, measured)
    device = device_of(setting.device)
    memory = memory_budget(
        setting.model, device, options, fresh_rank=min(options.fresh_rank, setting.rank_limit),
        lengths=[len(each.tokens) for each in (*learned, *measured)], allowed=setting.memory_bytes,
    )  # fmt: skip
    memory.check([open_folder(each.path) for each in members], max(options.k) - options.targeted)
    base = Loaded(load_base(setting.model, device), tokenizer)
    context = JobContext(
        setting, options, model=base.model, scorer=scorer(base, options), train=learned,
        validation=measured, folder=folder, watch=watch,
    )  # fmt: skip
    outcome = _Stages(context, members, scores, memory).run()
    write_atomic(folder / OUTCOME, json.dumps(outcome.to_json(), indent=1))
    return outcome


class _Stages:
    """The stages in their order."""

    def __init__(
        self,
        context: JobContext,
        members: Sequence[PoolMember],
        scores: ScoreMemory,
        memory: MemoryBudget,
    ) -> None:
        self._context, self._members, self._scores, self._memory = context, members, scores, memory
        self._options = context.options
        self._evaluated = 0

    def run(self) -> Outcome:
        """Run the stages that the folder does not hold, and judge."""
        context, options = self._context, self._options
        measured = [context.candidate("base", lambda: reality.base(context))]
        fresh = None
        if options.needs_fresh:
            measured.append(context.candidate("fresh_lora", self._fresh))
            fresh = context.own("fresh_lora")
        chosen = self._choose(fresh)
        adapters = [_reference(each.member) for each in chosen]
        self._memory.check([adapter.folder for adapter in adapters], len(adapters))
        mains = self._mains(adapters, fresh)
        measured += mains
        main = min(mains, key=lambda each: each.scored.loss).name
        if options.reality_check:
            assert fresh is not None
            known = {
                h.digest: self._evaluate(each.member)
                for h, each in zip(adapters, chosen, strict=True)
            }
            for name, make in reality.controls(
                context, adapters, known, fresh, targeted=options.targeted
            ).items():
                measured.append(context.candidate(name, make))
        verdict = judge(measured, main, seed=options.seed)
        return Outcome(
            options, context.setting, context.task, main, verdict, tuple(measured), tuple(chosen),
            _trained_tokens(context, len(mains)),
        )  # fmt: skip

    def _fresh(self) -> Candidate:
        title = "a fresh LoRA on the same examples"
        return reality.fresh_lora(self._context, "fresh_lora", title, self._options.fresh_dropout)

    def _choose(self, fresh: AdapterRef | None) -> tuple[Chosen, ...]:
        """Return the members to merge for the largest k; a smaller k takes the first of them."""
        options = self._options
        if options.recipe is not None:
            named = {item.digest for item in Recipe.parse(options.recipe).ingredients}
            return tuple(Chosen(m, 0.0) for m in self._members if m.digest in named)
        k = max(options.k) - options.targeted
        if k == 0 or not self._members:
            return ()
        target = sketch(fresh.folder) if fresh and options.selection == "weights" else None

        def similarity(member: PoolMember) -> float:
            assert target is not None
            return cosine(sketch(open_folder(member.path)), target)

        return select(
            self._members, k, options.selection, seed=options.seed, evaluate=self._evaluate,
            similarity=similarity,
        )  # fmt: skip

    def _evaluate(self, member: PoolMember) -> MemberScore:
        """Return a member's score on the training examples, measured once per task."""
        context = self._context
        self._evaluated += 1
        context.watch(
            Progress("evaluation", min(self._evaluated, len(self._members)), len(self._members))
        )
        known = self._scores.get(context.task, member.digest)
        if known is not None:
            return known
        scored = context.scorer.score(context.updates(open_folder(member.path)), context.train)
        score = MemberScore(scored.accuracy, scored.loss)
        self._scores.put(context.task, member.digest, score)
        return score

    def _mains(self, adapters: Sequence[AdapterRef], fresh: AdapterRef | None) -> list[Candidate]:
        """Return the method's own candidates, one for each k that differs."""
        context, options = self._context, self._options
        if options.method == "scale":
            title = "a static merge at its best scale"
            return [context.candidate("scale", lambda: scale(context, "scale", title, adapters))]
        first = [fresh] if options.targeted and fresh is not None else []
        sizes = sorted({min(k - len(first), len(adapters)) for k in options.k})
        candidates = []
        for size in sizes:
            name = options.method if len(sizes) == 1 else f"{options.method}_k{size + len(first)}"
            title = f"{options.method} over {size} of the pool" + (
                " and a fresh LoRA" if first else ""
            )

            def make(name: str = name, title: str = title, size: int = size) -> Candidate:
                return learn(context, name, title, Ingredients.of([*first, *adapters[:size]]))

            candidates.append(context.candidate(name, make))
        return candidates


def _trained_tokens(context: JobContext, times: int) -> int:
    """Return the tokens that `times` trainings of the method read, its target LoRA's included."""
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


def _reference(member: PoolMember) -> AdapterRef:
    return AdapterRef(member.reference, member.digest, open_folder(member.path))


def _check_request(
    options: Options, members: Sequence[PoolMember], validation: Sequence[Example]
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
    if pattern is not None and not any(occurs(pattern, each.answer) for each in validation):
        raise OptionsInvalid(
            f"option pattern: {pattern!r:.80} matches no answer of the validation examples, so "
            "every generated answer without a match would count as correct: correct the pattern"
        )


def _encoded(
    tokenizer: Any, conversations: Sequence[Conversation], options: Options, what: str
) -> list[Example]:
    try:
        return encode_all(tokenizer, conversations, longest=options.longest)
    except ExampleInvalid as error:
        raise ExampleInvalid(f"{what} examples: {error}") from error
