"""Run a recipe: stream modules through gather, method, check and write, into one folder.

Covered: memory bounded by a few modules, threads, atomicity, the checks that a result must pass.
Not covered: caching, single flight and processes (the server's), and fetching ingredients.
"""

import math
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from merge.errors import IncompatibleAdapters, RecipeInvalid, UnsafeResult
from merge.factors import Factors, Merged, Stack
from merge.methods import AUTO, MergeMethod, Value, find_method
from merge.peft_format import AdapterFolder, open_folder
from merge.peft_io import FolderWriter, is_finite, read_peft
from merge.recipe import Member, ModuleShape, Recipe, check_shapes
from merge.report import Measure, Report, add_up, measure

RECIPE_NAME = "recipe.json"
REPORT_NAME = "report.json"

Progress = Callable[[int, int], None]


def merge(
    recipe: Recipe,
    folders: Mapping[str, Path],
    out: Path,
    *,
    norm_limit: float = 1000.0,
    workers: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Merge `recipe` into the folder `out` and return what was measured.

    `out` then holds adapter_config.json and adapter_model.safetensors in weft's normal form (PEFT
    and vLLM load them), recipe.json (canonical text) and report.json. It appears whole or not at
    all: everything is written beside it and renamed. The files' bytes do not depend on `workers`.

    Args:
        recipe: from `plan` or `Recipe.parse`.
        folders: where each ingredient lies, by digest.
        out: must be missing or empty; its parents are made.
        norm_limit: the largest overall Frobenius norm of the scaled update that may leave here.
        workers: threads, each with single-threaded kernels; memory grows with them.
        progress: called on this thread with (modules done, modules in all).

    Raises:
        RecipeInvalid: the recipe's method or options are not this weft's.
        IncompatibleAdapters: the ingredients do not fit together, or hold numbers not finite.
        UnsafeResult: the result is not finite, overflows the dtype, or is above `norm_limit`.
        FormatError: an ingredient is no LoRA adapter.
        FileExistsError: `out` holds something.
        OSError: the disk is full or gone. After any of these, nothing is left at or beside `out`.
    """
    job = _Job(recipe, folders)
    with _appearing(out) as partial:
        with FolderWriter(partial, job.outputs, base=recipe.base, dtype=recipe.dtype) as writer:
            measures = _run_all(job, writer, workers, progress)
        ordered = {name: measures[name] for name in job.outputs}
        report = Report(
            method=recipe.method,
            ingredients=tuple(digest for digest, _ in recipe.ingredients),
            modules=ordered,
            overall=add_up(list(ordered.values()), len(recipe.ingredients)),
            seconds=job.seconds,
        )
        _check_norm(report, norm_limit)
        (partial / RECIPE_NAME).write_text(recipe.canonical() + "\n")
        (partial / REPORT_NAME).write_text(report.to_json() + "\n")
    return report


class _Job:
    """A recipe bound to its method and its opened ingredients."""

    def __init__(self, recipe: Recipe, folders: Mapping[str, Path]) -> None:
        self.recipe = recipe
        self.method, self.options, self.scale = _bind(recipe)
        self.ingredients = _open_all(recipe, folders)  # by position; weight 0 left out
        self.outputs = self._layout()
        self.seconds = {"read": 0.0, "merge": 0.0, "write": 0.0}  # summed over threads
        self._clock = threading.Lock()

    def _layout(self) -> dict[str, ModuleShape]:
        names = sorted({name for f in self.ingredients.values() for name in f.modules})
        outputs = {}
        for name in names:
            present = [f.modules[name] for f in self.ingredients.values() if name in f.modules]
            rank = self.method.result_rank([m.rank for m in present], self.options)
            outputs[name] = ModuleShape(rank, present[0].d_in, present[0].d_out, present[0].kind)
        return outputs

    def build(self, name: str, writer: FolderWriter) -> Measure:
        """Merge and write one module."""
        with self._timed("read"):
            members = self._gather(name)
        with self._timed("merge"):
            merged = self._merge(name, members)
            measured = measure(merged.factors, members, merged.energy)
        with self._timed("write"):
            writer.write(name, merged.factors)
        return measured

    def _gather(self, name: str) -> dict[int, Factors]:
        members = {}
        for i, folder in self.ingredients.items():
            if name in folder.modules:
                members[i] = read_peft(folder, folder.modules[name])
                if not (is_finite(members[i].a) and is_finite(members[i].b)):
                    digest = self.recipe.ingredients[i].digest
                    raise IncompatibleAdapters(
                        f"ingredient {digest[:12]} holds NaN or infinite numbers in {name}: "
                        "it cannot be merged"
                    )
        return members

    def _merge(self, name: str, members: Mapping[int, Factors]) -> Merged:
        weights = tuple(self.recipe.ingredients[i].weight for i in members)
        stack = Stack(name, tuple(members.values()), weights)
        factors, energy = self.method.function(stack, **self.options)
        if self.scale != 1.0:
            factors = Factors(factors.a, factors.b * self.scale)
        if not (is_finite(factors.a) and is_finite(factors.b)):
            raise UnsafeResult(f"{name}: the result overflows float32: lower weights or scale")
        return Merged(factors, energy)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        with self._clock:
            self.seconds[stage] += time.perf_counter() - begin


def _bind(recipe: Recipe) -> tuple[MergeMethod, dict[str, Value], float]:
    method = find_method(recipe.method)
    if recipe.revision != method.revision:
        raise RecipeInvalid(
            f"the recipe is for revision {recipe.revision} of {method.name}, this weft has "
            f"{method.revision}: plan it again"
        )
    options = method.bind(dict(recipe.options))
    bound = replace(recipe, options=tuple(sorted(options.items())))
    if bound.canonical() != recipe.canonical() or options.get("rank") == AUTO:
        raise RecipeInvalid(f"{method.name}: the recipe's options are not complete: plan it again")
    scale = cast("float", options.pop("scale"))
    return method, options, scale


def _open_all(recipe: Recipe, folders: Mapping[str, Path]) -> dict[int, AdapterFolder]:
    missing = [digest for digest, _ in recipe.ingredients if digest not in folders]
    if missing:
        raise RecipeInvalid(f"no folder was given for ingredient {missing[0]}")
    counted = {i: item for i, item in enumerate(recipe.ingredients) if item.weight != 0.0}
    opened = {i: open_folder(folders[item.digest]) for i, item in counted.items()}
    check_shapes(
        [
            Member.from_folder(item.digest[:12], opened[i], item.weight, item.digest)
            for i, item in counted.items()
        ]
    )
    return opened


def _run_all(
    job: _Job, writer: FolderWriter, workers: int, progress: Progress | None
) -> dict[str, Measure]:
    """Build every module on `workers` threads; the first failure cancels the rest."""
    measures: dict[str, Measure] = {}
    with _single_threaded_kernels(), ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(job.build, name, writer): name for name in job.outputs}
        try:
            for future in as_completed(futures):
                measures[futures[future]] = future.result()
                if progress is not None:
                    progress(len(measures), len(futures))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return measures


@contextmanager
def _single_threaded_kernels() -> Iterator[None]:
    """One thread per kernel: parallelism is across modules, where it costs no barriers.

    It also makes the results the same for any number of workers.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` that becomes `out` on success and vanishes on any failure."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(
            f"{out} exists and is not an empty folder: name another, or remove it"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    try:
        partial.chmod(0o755)  # the engine may run as another user
        yield partial
        partial.replace(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _check_norm(report: Report, limit: float) -> None:
    norm = report.overall.norm
    if not (math.isfinite(norm) and norm <= limit):
        name, worst = max(_by_norm(report), key=lambda item: item[1])
        raise UnsafeResult(
            f"the merged update has an overall norm of {norm:.4g}, above the limit of {limit:g} "
            f"(largest in {name}: {worst:.4g}): lower weights or scale"
        )


def _by_norm(report: Report) -> Sequence[tuple[str, float]]:
    return [(name, m.norm) for name, m in report.modules.items()]
