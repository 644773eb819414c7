"""A recipe bound to its method and its opened ingredients, and the building of its modules.

Covered: reading, merging, checking and measuring a module. Not covered: processes, the output
folder and the use of a finished module (`run`).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Self

import torch

from merge import equalise
from merge.errors import IncompatibleAdapters, RecipeInvalid, UnsafeResult
from merge.factors import Factors, Members, Merged, Stack, Stored
from merge.measure import Measure, measure
from merge.methods import AUTO, MergeMethod, Value, find_method
from merge.methods.cost import Shape, groups_of
from merge.opened import reopen_folder
from merge.peft_format import AdapterFolder, LoraModule
from merge.peft_io import TORCH_DTYPES, FolderReader, is_finite
from merge.recipe import Ingredient, Member, ModuleShape, Recipe, check_shapes
from merge.written import Written

_STAGES = ("read", "merge", "measure", "write")

# Writes a module and returns its factors as they are written: those it was given, where the file's
# numbers of them can be written as they are.
Sink = Callable[[str, Factors, Stored], Factors]


class Part(NamedTuple):
    """One ingredient's factors and weight in one module."""

    position: int  # in the recipe
    module: LoraModule
    weight: float  # not 0


class MergeRun:
    """One run of a recipe. A context manager that keeps the ingredients' files open.

    `build` may be called from several threads, and in processes forked from this one.

    Raises:
        RecipeInvalid: this version of weft does not have the method or options, or every weight
            is 0.
        IncompatibleAdapters: the ingredients' shapes do not fit together.
        FormatError: an ingredient is not a LoRA adapter.
    """

    def __init__(self, recipe: Recipe, folders: Mapping[str, Path]) -> None:
        self.recipe = recipe
        self.method, self.options, self.scale = _bind(recipe)
        self._equalised = self.options.pop(equalise.OPTION, None) == equalise.NORM
        self._folders = _open_all(recipe, folders)
        self._parts = self._gather()
        self.outputs = {name: self._shape(parts) for name, parts in self._parts.items()}
        self.clock = Clock()

    def __enter__(self) -> Self:
        with ExitStack() as files:
            self._readers = {
                position: files.enter_context(FolderReader(folder))
                for position, folder in self._folders.items()
            }
            self._factors = self._equalising() if self._equalised else {}
            self._tied, self.notes = self._tied_modules()
            self._files = files.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._files.close()

    @property
    def ranks_are_bounds(self) -> bool:
        """Whether ranks in `outputs` are upper bounds: the option `energy` decides them."""
        return self.options.get("energy") is not None

    @property
    def shapes(self) -> list[Shape]:
        """The shape of each module's merge, in the order of `outputs`."""
        return [
            Shape(tuple(part.module.rank for part in parts), out.d_in, out.d_out, out.rank)
            for parts, out in zip(self._parts.values(), self.outputs.values(), strict=True)
        ]

    def groups(self) -> list[list[str]]:
        """Return the names of all modules in the groups in which they are built."""
        names = list(self.outputs)
        return [[names[place] for place in group] for group in groups_of(self.shapes)]

    def peak_bytes(self) -> int:
        """Return the memory that one process takes at most, as estimated."""
        modules = [(shape.ranks, shape.d_in, shape.d_out) for shape in self.shapes]
        return self.method.estimate(modules, self.options, threads=1).nbytes

    def stacks(self) -> Iterator[tuple[list[int], Stack]]:
        """Yield what is merged, a module at a time, with its members' positions in the recipe.

        Raises:
            IncompatibleAdapters: an ingredient holds NaN or infinity.
            FormatError, OSError: from reading.
        """
        for name in self.outputs:
            stack = self._read(self._tied.get(name, name))
            self._check_finite(stack)
            yield [part.position for part in self._parts[stack.module]], stack

    def build(self, names: Sequence[str], sink: Sink) -> "Finished":
        """Merge a group of modules, hand each result to `sink`, and measure what that wrote.

        Raises:
            IncompatibleAdapters: an ingredient holds NaN or infinity.
            UnsafeResult: a result is not finite.
            MergeError: the method refuses the members.
            FormatError, OSError: from reading, or from the sink.
        """
        clock, measures = Clock(), {}
        # Without a function of groups, one module is in memory at a time.
        at_once = [names] if self.method.group is not None else [[name] for name in names]
        for part in at_once:
            measures.update(self._build(part, sink, clock))
        return Finished(measures, clock.seconds)

    def _build(self, names: Sequence[str], sink: Sink, clock: "Clock") -> dict[str, Measure]:
        measures = {}
        with clock.timed("read"):
            stacks = [self._read(self._tied.get(name, name)) for name in names]
        with clock.timed("merge"):
            for stack in stacks:
                self._check_finite(stack)
            results = [self._scaled(merged) for merged in self.method.merge(stacks, self.options)]
        for name, stack, merged in zip(names, stacks, results, strict=True):
            tied, members = stack.module != name, Members.of(stack.members)
            with clock.timed("merge"):
                result = merged.factors.transposed() if tied else merged.factors
                own = result.a is members.a  # which was checked before
                if not ((own or is_finite(result.a)) and is_finite(result.b)):
                    raise UnsafeResult(
                        f"{name}: the result overflows float32: lower weights or scale"
                    )
            with clock.timed("write"):
                cast = sink(name, result, members.stored_of(result))
            with clock.timed("measure"):
                # Transposing changes no inner product, so the source's figures are the module's.
                positions = [part.position for part in self._parts[stack.module]]
                written = Written.of(cast.transposed() if tied else cast, members)
                measures[name] = measure(stack, merged, positions, written)
        return measures

    def _gather(self) -> dict[str, list[Part]]:
        names = sorted({name for folder in self._folders.values() for name in folder.modules})
        gathered = {}
        for name in names:
            weights = self.recipe.weights_of(name)
            parts = [
                Part(position, folder.modules[name], weights[position])
                for position, folder in self._folders.items()
                if name in folder.modules and weights[position] != 0.0
            ]
            if parts:
                gathered[name] = parts
        if not gathered:
            raise RecipeInvalid(
                "every weight is 0 in every module: give at least one adapter another"
            )
        return gathered

    def _equalising(self) -> dict[int, float]:
        """Return the factor of each ingredient, by position, that brings it to the mean norm."""
        with self.clock.timed("read"):
            return equalise.equalising({
                position: equalise.norm_of(folder, self._readers[position])
                for position, folder in self._folders.items()
            })  # fmt: skip

    def _tied_modules(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """Return the modules to merge as another's transpose, by name, and notes for the report.

        For a base whose embedding and output head share one weight, PEFT's `ensure_weight_tying`
        trains one pair of tensors: the head's `a` is the embedding's bᵀ and its `b` the aᵀ
        (`LoraModel._create_and_replace`, `tied_adapter`). Merged apart, a method that draws,
        ranks entries or clusters would separate them.
        """
        tied, notes = {}, []
        embeddings = {
            name: parts
            for name, parts in self._parts.items()
            if parts[0].module.kind == "embedding"
        }
        for head, parts in self._parts.items():
            for source, others in embeddings.items():
                if not _fit_transposed(parts[0].module, others[0].module):
                    continue
                by_position = {other.position: other for other in others}
                count = sum(
                    part.position in by_position and self._is_tied(part, by_position[part.position])
                    for part in parts
                )
                places = [(part.position, part.weight) for part in parts]
                if count == len(parts) and places == [(o.position, o.weight) for o in others]:
                    tied[head] = source
                elif count:
                    notes.append(
                        f"{head} and {source} have one update in {count} of {len(parts)} "
                        "ingredients (PEFT's ensure_weight_tying); in the result they have two"
                    )
        return tied, tuple(notes)

    def _is_tied(self, head: Part, source: Part) -> bool:
        """Return whether the head's update is the source's transposed, factor by factor."""
        if (head.module.rank, head.module.scale) != (source.module.rank, source.module.scale):
            return False
        a, b = torch.empty(head.module.a.shape), torch.empty(head.module.b.shape)
        self._readers[head.position].read_into(head.module, a, b)
        source_a, source_b = torch.empty(source.module.a.shape), torch.empty(source.module.b.shape)
        self._readers[source.position].read_into(source.module, source_a, source_b)
        return torch.equal(a, source_b.mT) and torch.equal(b, source_a.mT)

    def _shape(self, parts: list[Part]) -> ModuleShape:
        rank = self.method.result_rank([part.module.rank for part in parts], self.options)
        first = parts[0].module
        return ModuleShape(rank, first.d_in, first.d_out, first.kind)

    def _read(self, name: str) -> Stack:
        parts = self._parts[name]
        first, total = parts[0].module, sum(part.module.rank for part in parts)
        # Read into views of joined tensors: methods need MSUs side by side, and joining them later
        # would copy every factor.
        # Joined in the files' own dtype, if they have one, and widened once: half the bytes.
        dtypes = {entry.dtype for part in parts for entry in (part.module.a, part.module.b)}
        dtype = TORCH_DTYPES[dtypes.pop()] if len(dtypes) == 1 else torch.float32
        a = torch.empty(total, first.d_in, dtype=dtype)
        b = torch.empty(first.d_out, total, dtype=dtype)
        begin = 0
        for part in parts:
            own = slice(begin, begin := begin + part.module.rank)
            self._readers[part.position].read_into(part.module, a[own], b[:, own])
        members = Members.joined(a, b, [(part.module.rank, part.module.scale) for part in parts])
        weights = (part.weight * self._factors.get(part.position, 1.0) for part in parts)
        return Stack(name, members, tuple(weights))

    def _check_finite(self, stack: Stack) -> None:
        members = Members.of(stack.members)
        # Two reductions for the good case; members one by one only to name the bad one.
        if is_finite(members.a) and is_finite(members.b):
            return
        for part, member in zip(self._parts[stack.module], members, strict=True):
            if not (is_finite(member.a) and is_finite(member.b)):
                digest = self.recipe.ingredients[part.position].digest
                raise IncompatibleAdapters(
                    f"ingredient {digest[:12]} holds NaN or infinity in {stack.module}: "
                    "leave it out of the recipe"
                )

    def _scaled(self, merged: Merged) -> Merged:
        if self.scale is None or self.scale == 1.0:
            return merged
        factors = Factors(merged.factors.a, merged.factors.b * self.scale)
        mix = merged.mix and merged.mix._replace(right=merged.mix.right * self.scale)
        return merged._replace(factors=factors, mix=mix)


def _fit_transposed(head: LoraModule, source: LoraModule) -> bool:
    return (head.kind, source.kind) == ("linear", "embedding") and (head.d_in, head.d_out) == (
        source.d_out,
        source.d_in,
    )


class Clock:
    """Wall-clock seconds of work by stage."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(_STAGES, 0.0)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the time inside towards `stage`."""
        begin = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - begin

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add what another clock has counted."""
        for stage, count in seconds.items():
            self.seconds[stage] += count


class Finished(NamedTuple):
    """Built modules: their measures by name, and the seconds they took by stage."""

    measures: dict[str, Measure]
    seconds: Mapping[str, float]


def _bind(recipe: Recipe) -> tuple[MergeMethod, dict[str, Value], float | None]:
    """Return the method, its options without `scale`, and the scale; None for scale=match."""
    method = find_method(recipe.method)
    if recipe.revision != method.revision:
        raise RecipeInvalid(
            f"the recipe is for revision {recipe.revision} of {method.name}, this version of weft "
            f"has {method.revision}: plan it again"
        )
    options = method.bind(dict(recipe.options))
    bound = replace(recipe, options=tuple(sorted(options.items())))
    if bound.canonical() != recipe.canonical() or options.get("rank") == AUTO:
        raise RecipeInvalid(f"{method.name}: options are missing from the recipe: plan it again")
    scale = options.pop("scale")
    return method, options, scale if isinstance(scale, float) else None


def _open_all(recipe: Recipe, folders: Mapping[str, Path]) -> dict[int, AdapterFolder]:
    """Open the ingredients with a weight other than 0 somewhere, by position in the recipe."""
    missing = [item.digest for item in recipe.ingredients if item.digest not in folders]
    if missing:
        raise RecipeInvalid(f"the folder of ingredient {missing[0]} is missing")
    # An ingredient that counts nowhere is not opened: its folder may hold anything.
    counted = {i: item for i, item in enumerate(recipe.ingredients) if _counts(item)}
    opened = {i: reopen_folder(folders[item.digest]) for i, item in counted.items()}
    check_shapes(
        [
            Member.from_folder(item.digest[:12], opened[i], item.weight, item.digest)
            for i, item in counted.items()
        ]
    )
    return opened


def _counts(item: Ingredient) -> bool:
    return item.weight != 0.0 or any(weight != 0.0 for _, weight in item.patterns)
