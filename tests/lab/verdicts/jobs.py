"""Whole jobs on the few-shot tasks: what the verdict says, beside what 200 other prompts say.

One job is five folds over a hundred examples of one task: the adapters of the demo, a fresh LoRA,
and `recycle` over both. The same examples taught the arms of the adaptive table, which have 200
prompts of their own as marks. Covered: the cell, its measuring. Not covered: chance (`chance.py`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from merge.adaptive.adapt import Conversation, adapt
from merge.adaptive.candidates import load_measured
from merge.adaptive.context import Setting
from merge.adaptive.options import Options
from merge.adaptive.pool import FileScores, PoolMember
from merge.peft_format import digest_folder
from tests.lab.adapting.scoring import Examiner
from tests.lab.adapting.tasks import FEW_SHOT, shown
from tests.lab.merging.adapters import BASE
from tests.lab.train_adapters import BASE_NAME

EXAMPLES, SEED = 100, 0
SETTING = Setting(str(BASE), BASE_NAME, device="cpu", dtype="float32", rank_limit=64)
OPTIONS = Options(k=(3, 9), fresh_steps=200, folds=5, reality_check=False, seed=SEED)


@dataclass(frozen=True, slots=True)
class Job:
    """One job: its verdict, and what each candidate was judged by, question by question."""

    key: str
    task: str
    verdict: str
    sentence: str
    best: str
    marks: Mapping[str, str]  # by candidate, 0 and 1
    nats: Mapping[str, tuple[float, ...]]  # by candidate, of each answer
    tokens: tuple[int, ...]  # of each answer
    seconds: float  # of all trainings and marks
    fold_seconds: float  # of those of folds

    def to_line(self) -> str:
        """The job as JSON without a line break."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_line(line: str) -> "Job":
        """The job of a line; raises ValueError for a line that was cut off."""
        fields = json.loads(line)
        nats = {name: tuple(values) for name, values in fields["nats"].items()}
        return Job(**{**fields, "nats": nats, "tokens": tuple(fields["tokens"])})


class Adapters:
    """The demo's adapters as a pool."""

    def members(self) -> list[PoolMember]:
        """See `merge.adaptive.pool.Pool`."""
        folders = sorted((BASE.parent / "adapters").iterdir())
        return [PoolMember(f"{f.name}@1", digest_folder(f), f) for f in folders]


def key_of(task: str) -> str:
    """What identifies the numbers of a job."""
    digests = [member.digest for member in Adapters().members()]
    text = json.dumps([task, FEW_SHOT[task].description, EXAMPLES, OPTIONS.to_json(), digests])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_job(task: str, folder: Path) -> Job:
    """Run the job of a task in a folder, or go on with it."""
    folder.mkdir(parents=True, exist_ok=True)
    outcome = adapt(
        SETTING, OPTIONS, Adapters(), _conversations(task), [], folder=folder,
        scores=FileScores(folder.parent / "scores"), watch=lambda _: None,
        scorer=lambda base, _: Examiner(base.model),
    )  # fmt: skip
    measured = load_measured(folder)
    assert measured is not None
    judged = {made.name: made.judged for made in measured[0]}
    return Job(
        key_of(task), task, outcome.verdict.kind, outcome.verdict.sentence, outcome.verdict.best,
        {name: "".join("01"[mark] for mark in one.exact_match) for name, one in judged.items()},
        {name: tuple(round(nll, 4) for nll in one.nll) for name, one in judged.items()},
        judged["base"].tokens, round(sum(made.seconds for made in measured[0]), 1),
        round(outcome.fold_seconds, 1),
    )  # fmt: skip


def _conversations(task: str) -> list[Conversation]:
    examples = [one for part in shown(FEW_SHOT[task], EXAMPLES, SEED) for one in part]
    return [
        [{"role": "user", "content": one.prompt}, {"role": "assistant", "content": one.answer}]
        for one in examples
    ]
