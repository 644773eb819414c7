"""The stages of one learning, in their order.

base → fresh LoRA → selection → the method, for each k → controls. Every stage is kept in the
context's folder when it is done. Not covered: which examples it sees (`split`), and how often there
is one (`crossfit`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from merge.adaptive import controls as reality
from merge.adaptive.candidates import Candidate
from merge.adaptive.context import AdapterRef, JobContext
from merge.adaptive.methods.fold import Ingredients
from merge.adaptive.methods.learn import learn
from merge.adaptive.methods.scale import scale
from merge.adaptive.model.base import MemoryBudget
from merge.adaptive.pool import PoolMember
from merge.adaptive.selection import Chosen, Evaluate, cosine, select
from merge.peft_format import open_folder
from merge.recipe import Recipe
from merge.sketch import sketch


@dataclass(frozen=True, slots=True)
class Staged:
    """What one learning has made.

    Attributes:
        candidates: in the order in which they were measured.
        sizes: the names of the method's own candidates, one for each k that differs.
        selected: what was chosen from the pool, best first.
        fold_seconds: of work on what only measures, by cross-fitting.
    """

    candidates: tuple[Candidate, ...]
    sizes: tuple[str, ...]
    selected: tuple[Chosen, ...]
    fold_seconds: float = 0.0


class Stages:
    """The stages, over a context and a pool; `evaluate` sees what the context may see."""

    def __init__(
        self,
        context: JobContext,
        members: Sequence[PoolMember],
        evaluate: Evaluate,
        memory: MemoryBudget,
    ) -> None:
        self._context, self._members, self._memory = context, members, memory
        self._evaluate, self._options = evaluate, context.options

    def run(self) -> Staged:
        """Run the stages that the folder does not hold."""
        context, options = self._context, self._options
        measured = [context.candidate("base", lambda: reality.base(context))]
        fresh = None
        if options.needs_fresh:
            measured.append(context.candidate("fresh_lora", self._fresh))
            fresh = context.own("fresh_lora")
        chosen = self._choose(fresh)
        adapters = [_reference(choice.member) for choice in chosen]
        self._memory.check([adapter.folder for adapter in adapters], len(adapters))
        mains = self._mains(adapters, fresh)
        measured += mains
        if len(mains) > 1:
            title = f"{options.method} over the best number of adapters"
            measured.append(self._best(options.method, title, mains))
        if options.reality_check:
            assert fresh is not None
            measured += self._controls(adapters, chosen, fresh)
        return Staged(tuple(measured), tuple(main.name for main in mains), chosen)

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

    def _mains(self, adapters: Sequence[AdapterRef], fresh: AdapterRef | None) -> list[Candidate]:
        """Return the method's own candidates, one for each k that differs."""
        context, options = self._context, self._options
        if options.method == "scale":
            title = "a static merge at its best scale"
            return [context.candidate("scale", lambda: scale(context, "scale", title, adapters))]
        first = [fresh] if options.targeted and fresh is not None else []

        def make(name: str, size: int) -> Candidate:
            beside = " and a fresh LoRA" if first else ""
            title = f"{options.method} over {size} of the pool{beside}"
            return learn(context, name, title, Ingredients.of([*first, *adapters[:size]]))

        return self._sized(options.method, adapters, make)

    def _sized(
        self, method: str, adapters: Sequence[AdapterRef], make: Callable[[str, int], Candidate]
    ) -> list[Candidate]:
        """Return a candidate for each k that differs; `make` takes a name and a number."""
        first = int(self._options.targeted)
        sizes = sorted({min(k - first, len(adapters)) for k in self._options.k})
        names = [method] if len(sizes) == 1 else [f"{method}_k{size + first}" for size in sizes]
        return [
            self._context.candidate(name, partial(make, name, size))
            for name, size in zip(names, sizes, strict=True)
        ]

    def _best(self, name: str, title: str, sized: Sequence[Candidate]) -> Candidate:
        """Return the size that the choosing examples like best, or the settled one, by a name."""
        settled = self._context.settled

        def loss(candidate: Candidate) -> float:
            if settled is not None:
                return float(candidate.name != settled.main)
            assert candidate.choice_loss is not None
            return candidate.choice_loss

        best = min(sized, key=loss)
        detail = {**best.detail, "is": best.name}
        return self._context.candidate(
            name, lambda: replace(best, name=name, title=title, detail=detail)
        )

    def _controls(
        self, adapters: Sequence[AdapterRef], chosen: Sequence[Chosen], fresh: AdapterRef
    ) -> list[Candidate]:
        context = self._context
        known = {
            adapter.digest: self._evaluate(choice.member)
            for adapter, choice in zip(adapters, chosen, strict=True)
        }
        makers = reality.controls(context, adapters, known, fresh)
        measured = [context.candidate(name, make) for name, make in makers.items()]
        if adapters and self._options.method != "scale" and context.settled is None:
            measured.append(self._random(adapters, fresh if self._options.targeted else None))
        return measured

    def _random(self, adapters: Sequence[AdapterRef], fresh: AdapterRef | None) -> Candidate:
        """Return the control without content, its size chosen as the method's is."""

        def make(name: str, size: int) -> Candidate:
            return reality.random_parameters(self._context, name, adapters[:size], fresh)

        sized = self._sized("random_parameters", adapters, make)
        return sized[0] if len(sized) == 1 else self._best(
            "random_parameters", sized[0].title, sized
        )  # fmt: skip


def _reference(member: PoolMember) -> AdapterRef:
    return AdapterRef(member.reference, member.digest, open_folder(member.path))
