"""Run a recipe: stream modules through read, merge, check and write, into one folder.

Covered: memory bounded by a few modules, properties of the whole adapter (ranks, a matched norm,
the norm's limit), atomicity. Not covered: one module (`merge_run`), processes (`processes`),
caching and single flight (the server's), and fetching ingredients.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from merge.errors import UnsafeResult
from merge.factors import Factors
from merge.measure import Measure, add_up
from merge.merge_run import Clock, Finished, MergeRun
from merge.peft_format.atomic_files import atomic_folder
from merge.peft_io import FolderWriter
from merge.processes import Group, affordable, over
from merge.recipe import ModuleShape, Recipe
from merge.report import Report
from merge.spill import Spill
from merge.written import Written

RECIPE_NAME = "recipe.json"
REPORT_NAME = "report.json"
# A result this far below its ingredients is the rounding of a sum that cancels: scaling it up to
# their norm would publish amplified noise.
_CANCELLED = 1e-5
# Of the output. Below, a merge takes less time than a second process saves.
ELEMENTS_OF_A_PROCESS = 2**22
# How far the cast may move a matched norm.
_MATCHED = 1e-2
# The largest Frobenius norm of an update, and of a factor of one.
NORM_LIMIT, FACTOR_LIMIT = 1e3, 1e4

Progress = Callable[[int, int], None]


def merge(
    recipe: Recipe,
    folders: Mapping[str, Path],
    out: Path,
    *,
    norm_limit: float = NORM_LIMIT,
    factor_limit: float = FACTOR_LIMIT,
    workers: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Merge `recipe` into the folder `out` and return what was measured.

    `out` then holds adapter_config.json and adapter_model.safetensors in weft's normal form (PEFT
    and vLLM load them), recipe.json (canonical text) and report.json. It appears whole or not at
    all: everything is written beside it and renamed. The files' bytes do not depend on `workers`.
    Nothing is synced to disk: a store does that when it adopts the folder.

    Args:
        recipe: from `plan` or `Recipe.parse`.
        folders: where each ingredient lies, by digest.
        out: must be missing or empty; its parents are made.
        norm_limit: the largest allowed Frobenius norm of the whole update, as it is written.
        factor_limit: the largest allowed Frobenius norm of a factor of a module.
        workers: processes at most, forked from this one, each with single-threaded kernels; memory
            grows with them. A small merge stays in this process.
        progress: called on this thread with (modules done, modules in all).

    Raises:
        RecipeInvalid: this version of weft does not have the recipe's method or options.
        IncompatibleAdapters: the ingredients do not fit together, or hold NaN or infinity.
        UnsafeResult: the result is not finite, overflows the dtype, is above `norm_limit` or
            `factor_limit`, or cancels out where its norm was to be matched.
        FormatError: an ingredient is not a LoRA adapter.
        FileExistsError: `out` is not empty.
        ProcessDied: a process of the merge was killed.
        OSError: the disk is full or gone. After any error nothing is left at or beside `out`.
    """
    with (
        MergeRun(recipe, folders) as run,
        atomic_folder(out) as partial,
        _single_threaded_kernels(),
    ):
        processes = _processes(run, workers)
        if run.scale is None or run.ranks_are_bounds:
            report = _in_two_passes(run, partial, processes, progress)
        else:
            with _writer(run, partial, run.outputs) as writer:

                def build(names: Group) -> Finished:
                    return run.build(names, writer.write)

                measures = _over(run, build, writer, processes=processes, progress=progress)
            report = _report(run, measures, run.scale)
        _check_norm(report, norm_limit)
        _check_factors(report, factor_limit)
        (partial / RECIPE_NAME).write_text(recipe.canonical() + "\n")
        (partial / REPORT_NAME).write_text(report.to_json() + "\n")
    return report


def _processes(run: MergeRun, workers: int) -> int:
    """Return the number of processes that is quickest and that the memory limit has room for."""
    elements = sum(shape.rank * (shape.d_in + shape.d_out) for shape in run.outputs.values())
    processes = max(1, min(workers, elements // ELEMENTS_OF_A_PROCESS))
    return processes if processes == 1 else affordable(processes, run.peak_bytes())


def _in_two_passes(
    run: MergeRun, partial: Path, processes: int, progress: Progress | None
) -> Report:
    """Merge all modules into a spill file, decide ranks and scale, then write the folder.

    The safetensors header holds all shapes, and a matched scale needs the norm of every module, so
    neither is known before the last module is merged.
    """
    with Spill(partial, run.outputs) as spill:

        def build(names: Group) -> Finished:
            return run.build(names, spill.put)

        measures = _over(run, build, None, processes=processes, progress=progress)
        factor = _matching(measures.values()) if run.scale is None else 1.0
        outputs = {
            name: shape._replace(rank=measures[name].rank) for name, shape in run.outputs.items()
        }
        with _writer(run, partial, outputs) as writer:

            def write(names: Group) -> Finished:
                clock, written = Clock(), {}
                for name in names:
                    with clock.timed("write"):
                        merged = spill.get(name, outputs[name])
                        cast = writer.write(name, Factors(merged.a, merged.b, factor))
                    with clock.timed("measure"):
                        measure = measures[name].scaled(factor)
                        written[name] = measure.written(Written.of(cast))
                return Finished(written, clock.seconds)

            written = _over(run, write, writer, processes=processes)
    if run.scale is None:
        _check_match(written.values())
    return _report(run, written, factor if run.scale is None else run.scale)


def _matching(measures: Iterable[Measure]) -> float:
    """Return the factor that brings the result's norm to the mean of its ingredients' norms."""
    overall = add_up(list(measures))
    wanted = _mean_norm(overall)
    if wanted == 0.0:  # zero ingredients: the result is zero at every scale
        return 1.0
    if not overall.norm > _CANCELLED * wanted:
        raise UnsafeResult(
            f"scale=match: the ingredients cancel out (the merged update has a norm of "
            f"{overall.norm:.3g}, the ingredients {wanted:.3g} on average): change weights, or "
            "give scale as a number"
        )
    return wanted / overall.norm


def _check_match(measures: Iterable[Measure]) -> None:
    """Raise UnsafeResult if the written norm is not the matched one: the rest is the cast's."""
    overall = add_up(list(measures))
    wanted = _mean_norm(overall)
    if not abs(overall.norm - wanted) <= _MATCHED * wanted:
        raise UnsafeResult(
            f"scale=match: the ingredients cancel out so far that the output's rounding changes "
            f"the norm (written {overall.norm:.4g}, wanted {wanted:.4g}): change weights, or "
            "write a wider dtype"
        )


def _mean_norm(overall: Measure) -> float:
    norms = [overall.ingredient_norm(i) for i in overall.squares]
    return math.fsum(norms) / len(norms)


def _writer(run: MergeRun, partial: Path, outputs: Mapping[str, ModuleShape]) -> FolderWriter:
    return FolderWriter(partial, outputs, base=run.recipe.base, dtype=run.recipe.dtype)


def _report(run: MergeRun, measures: Mapping[str, Measure], scale: float) -> Report:
    return Report(
        method=run.recipe.method,
        ingredients=tuple(item.digest for item in run.recipe.ingredients),
        modules=measures,
        overall=add_up(list(measures.values())),
        scale=scale,
        seconds=run.clock.seconds,
        notes=run.notes,
    )


def _over(
    run: MergeRun,
    work: Callable[[Group], Finished],
    writer: FolderWriter | None,
    *,
    processes: int,
    progress: Progress | None = None,
) -> dict[str, Measure]:
    """Return the measures of all modules, in order, from `work` on each group; count the seconds.

    Modules that a child wrote are written for `writer` too.
    """
    measures: dict[str, Measure] = {}

    def done(finished: Finished) -> None:
        run.clock.add(finished.seconds)
        for name, measure in finished.measures.items():
            measures[name] = measure
            if writer is not None:
                writer.note_written(name)
            if progress is not None:
                progress(len(measures), len(run.outputs))

    over(run.groups(), work, done, processes=processes)
    return {name: measures[name] for name in run.outputs}


@contextmanager
def _single_threaded_kernels() -> Iterator[None]:
    """Run torch kernels on one thread each: parallelism is across modules, without barriers.

    It also makes the results independent of the number of cores: how a kernel splits a sum among
    threads changes its rounding.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_norm(report: Report, limit: float) -> None:
    norm = report.overall.norm
    # Written so that NaN fails. The limit guards the engine: an update of norm 6.5e31 made every
    # later request of the base fail, while a norm of 1,000 was harmless (vLLM, measured).
    if not (math.isfinite(norm) and norm <= limit):
        name, worst = max(report.modules.items(), key=lambda item: item[1].norm)
        raise UnsafeResult(
            f"the merged update has an overall norm of {norm:.4g}, above the limit of {limit:g} "
            f"(largest in {name}: {worst.norm:.4g}): lower weights or scale"
        )


def _check_factors(report: Report, limit: float) -> None:
    # A small product of large factors: the engine multiplies by one at a time.
    name, worst = max(report.modules.items(), key=lambda item: item[1].factor_norm)
    if not worst.factor_norm <= limit:
        raise UnsafeResult(
            f"{name}: a factor of the merged update has a norm of {worst.factor_norm:.4g}, above "
            f"the limit of {limit:g}, though the update itself is within its own: lower weights"
        )
