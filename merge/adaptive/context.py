"""The state that a job's stages share, and the folder that holds its finished stages.

Covered: the loaded base, the examples in tokens, candidates and adapters on disk. Not covered: the
stages (`methods`, `controls`) and their order (`adapt`).
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from merge.adaptive.candidates import Candidate
from merge.adaptive.model.hooks import Updates
from merge.adaptive.model.stacked import Modules, stack, updates_of
from merge.adaptive.options import Options
from merge.adaptive.scoring.examples import Example
from merge.adaptive.scoring.scored import figures
from merge.adaptive.scoring.scorer import Scorer
from merge.adaptive.training import Progress, Run, Schedule, Trained
from merge.factors import Factors
from merge.peft_format import AdapterFolder, digest_folder, open_folder
from merge.peft_format.atomic_files import atomic_folder, write_atomic
from merge.peft_io import write_peft


class AdapterRef(NamedTuple):
    """An adapter in use: its reference, its digest and its opened folder."""

    reference: str
    digest: str
    folder: AdapterFolder


class Target(NamedTuple):
    """The form of a folded artifact: the base's name, the dtype, the engine's largest rank."""

    base: str
    dtype: str
    rank_limit: int


CANDIDATES, CHECKPOINTS = "candidates", "checkpoints"  # in a job's folder
U = TypeVar("U", bound=Updates)


@dataclass(frozen=True, slots=True)
class Setting:
    """The base and the device of a job, and the form of its results.

    Attributes:
        model: the base's weights, a folder or a Hub id.
        base: the base's name in recipes.
        device: of torch; "auto" is a GPU where there is one.
        dtype: of written adapters and recipes: "float32", "bfloat16" or "float16".
        rank_limit: the engine's largest rank.
        norm_limit: the largest norm of an update that may be served.
        memory_bytes: that the job may use; None for all that is free on the device.
    """

    model: str
    base: str
    device: str = "auto"
    dtype: str = "bfloat16"
    rank_limit: int = 64
    norm_limit: float = 1000.0
    memory_bytes: int | None = None

    @property
    def target(self) -> Target:
        """The form of folded artifacts."""
        return Target(self.base, self.dtype, self.rank_limit)


class Measured(NamedTuple):
    """A measured candidate: figures with intervals, in the form of `Figures.to_json`."""

    candidate: str
    figures: dict[str, Any]


Watch = Callable[[Progress | Measured], None]
"""Called at every step and for every candidate; an exception from it ends the job."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What cross-fitting has settled, so that the training that is served chooses nothing.

    Attributes:
        steps: by training, the step at which it stops.
        scales: by search for a scale, the scale.
        main: the name of the method's best size.
    """

    steps: Mapping[str, int]
    scales: Mapping[str, float]
    main: str


class JobContext:
    """State shared by a job's stages. No other job may use the folder.

    Attributes:
        train: the examples that are learned from.
        validation: the examples that choose a step, a scale, a number of adapters; none where
            these are settled.
        tests: the examples that only measure.
        settled: what needs no choice any more.
    """

    def __init__(
        self,
        setting: Setting,
        options: Options,
        *,
        model: Any,
        scorer: Scorer,
        train: Sequence[Example],
        validation: Sequence[Example],
        tests: Sequence[Example],
        folder: Path,
        watch: Watch,
        settled: Settled | None = None,
    ) -> None:
        self.setting, self.options = setting, options
        self.model, self.scorer = model, scorer
        self.train, self.validation, self.tests = train, validation, tests
        self.folder, self.watch, self.settled = folder, watch, settled

    @property
    def fresh_rank(self) -> int:
        """The rank of LoRAs that are trained from nothing."""
        return min(self.options.fresh_rank, self.setting.rank_limit)

    def candidate(self, name: str, make: Callable[[], Candidate]) -> Candidate:
        """Return the candidate that an earlier run of the job measured, or make and store it."""
        path = self.folder / CANDIDATES / f"{name}.json"
        if path.exists():
            return Candidate.from_json(json.loads(path.read_text()))
        began = time.perf_counter()
        made = make().taking(time.perf_counter() - began)
        write_atomic(path, json.dumps(made.to_json()))
        self.watch(Measured(name, figures(made.judged, seed=self.options.seed).to_json()))
        return made

    def adapter(
        self, name: str, modules: Mapping[str, Factors], kinds: Mapping[str, Any]
    ) -> AdapterRef:
        """Write an adapter of the job's own into its folder and return it."""
        path = self.folder / CANDIDATES / name
        # A run that was stopped here may have left one, or a part of one.
        for left in (path, *path.parent.glob(f".{name}.partial-*")):
            shutil.rmtree(left, ignore_errors=True)
        with atomic_folder(path) as folder:
            write_peft(
                folder, modules, kinds=kinds, base=self.setting.base, dtype=self.setting.dtype
            )
        return self.own(name)

    def own(self, name: str) -> AdapterRef:
        """Return an adapter that the job has written."""
        path = self.folder / CANDIDATES / name
        return AdapterRef(name, digest_folder(path), open_folder(path))

    def own_folder(self, adapter: AdapterRef) -> str | None:
        """Return an adapter's path within the job's folder; None for one of the pool."""
        path = adapter.folder.path
        return str(path.relative_to(self.folder)) if path.is_relative_to(self.folder) else None

    def updates(self, folder: AdapterFolder) -> Updates:
        """Return an adapter in the form that `attached` takes, on the base's device."""
        return self.placed(updates_of(folder))

    def weighted(
        self, adapters: Sequence[Modules], embeddings: frozenset[str]
    ) -> Callable[[Sequence[float]], Updates]:
        """Return a function from weights to Σ weight · update.

        All results share one copy of the factors and differ in their gates: a search tries a
        hundred weights on ten gigabytes of adapters.
        """
        layers, layout = stack(adapters, embeddings=embeddings)
        updates = self.placed(Updates(layers))

        def make(weights: Sequence[float]) -> Updates:
            for name, layer in layers.items():
                gates = torch.tensor(list(weights))[layout.owners[name]]
                layer.gates = gates.to(layer.a.device)
            return updates

        return make

    def placed(self, updates: U) -> U:
        """Return updates on the base's device, in float32 whatever the base's dtype is."""
        return updates.to(next(self.model.parameters()).device)


def train(context: JobContext, name: str, updates: Updates, schedule: Schedule) -> Trained:
    """Train what is trainable in `updates`, from its checkpoint if there is one."""
    until = None if context.settled is None else context.settled.steps.get(name)
    run = Run(
        stage=name, model=context.model, updates=updates, train=context.train,
        validation=context.validation, schedule=schedule, watch=context.watch,
        checkpoint=checkpoint_of(context, name), until=until,
    )  # fmt: skip
    return run()


def checkpoint_of(context: JobContext, name: str) -> Path:
    """Return the checkpoint file of a stage; its folder is made."""
    path = context.folder / CHECKPOINTS / f"{name}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
