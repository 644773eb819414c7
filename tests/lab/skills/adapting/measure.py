"""Measure one cell on the real base: a held-out skill, over the adapters of the others.

Covered: the protocol, which is part of a cell's key; a skill's examples in tokens.
Not covered: what a unit shares (`tests/lab/adapting/unit.py`), which cells (`design.py`).
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from merge.adaptive.context import Setting
from merge.adaptive.model.base import load_base, load_tokenizer
from merge.adaptive.options import Options
from merge.adaptive.pool import PoolMember
from merge.adaptive.scoring.examples import IGNORED
from merge.adaptive.scoring.examples import Example as Encoded
from merge.peft_format import digest_folder, open_folder
from server.cli.demo_base import BASE_NAME
from tests.lab.adapting.design import Wanted
from tests.lab.adapting.pool import Pool
from tests.lab.adapting.scoring import Examiner
from tests.lab.adapting.tasks import TRAINED_SHARE, Split
from tests.lab.adapting.unit import Bench, Setup, Unit
from tests.lab.skills import SKILLS
from tests.lab.skills.adapting.design import ARMS, HELD_OUT
from tests.lab.skills.chat import encode
from tests.lab.skills.passes import UpperLayers
from tests.lab.skills.skill import Example, Skill
from tests.lab.skills.train import Plan

TESTS, PROMPT_SEED = 40, 3
COMPARED_ON = 24  # training examples: a pool of seven on eighty takes as long as a training
RANK_LIMIT = (
    64  # seven adapters of rank 8 and a fresh LoRA of rank 8 are within it: folds are exact
)
STEPS = 50  # of every training: the paper has 100 for coefficients and 400 for a fresh LoRA
OPTIONS = Options(
    steps=STEPS, fresh_steps=STEPS, batch_size=4, evaluate_every=25, budget=40,
    # As the pool's adapters were trained; the paper's 3e-4 and rank 64 are for 400 steps of an 8B.
    fresh_rank=Plan().rank, fresh_alpha=float(Plan().alpha), fresh_learning_rate=Plan().rate,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A skill that is learned anew."""

    skill: Skill

    @property
    def skills(self) -> frozenset[str]:
        """See `Skilled`."""
        return frozenset([self.skill.name])


def protocol(options: Options) -> dict[str, object]:
    """Return everything that decides numbers besides the place and the pool."""
    return {
        "version": 1, "tests": TESTS, "prompt_seed": PROMPT_SEED, "compared_on": COMPARED_ON,
        "rank_limit": RANK_LIMIT, "steps": options.steps, "fresh_steps": options.fresh_steps,
        "batch_size": options.batch_size, "evaluate_every": options.evaluate_every,
        "learning_rate": options.learning_rate, "fresh_rank": options.fresh_rank,
        "fresh_alpha": options.fresh_alpha, "fresh_dropout": options.fresh_dropout,
        "fresh_learning_rate": options.fresh_learning_rate, "lorahub_budget": options.budget,
    }  # fmt: skip


class SkillBench(Bench):
    """The real base and the adapters of all skills; `folder` is the study's own."""

    def __init__(
        self,
        base: Path,
        adapters: Callable[[str], Path],
        folder: Path,
        options: Options = OPTIONS,
    ) -> None:
        """`adapters` gives a skill's folder. Raises OSError: one is missing."""
        super().__init__(ARMS)
        self._members = {
            name: PoolMember(name, digest_folder(adapters(name)), adapters(name)) for name in SKILLS
        }
        changed = {name for one in self._members.values() for name in open_folder(one.path).modules}
        model = UpperLayers(load_base(str(base), torch.device("cpu")), changed).eval()
        self._tokenizer = load_tokenizer(str(base))
        setting = Setting(str(base), BASE_NAME, device="cpu", rank_limit=RANK_LIMIT)
        self._options = options
        self._setups = {
            name: Setup(
                setting, options, model, Examiner(model), self._pool(name), folder, COMPARED_ON
            )
            for name in HELD_OUT
        }

    def key(self, wanted: Wanted) -> str:
        """See `Bench`."""
        digests = sorted(one.digest for one in self._setups[wanted.task].pool.adapters)
        text = json.dumps([wanted, digests, protocol(self._options), BASE_NAME], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def unit(self, wanted: Wanted) -> Unit:
        """See `Bench`."""
        task = HeldOut(SKILLS[wanted.task])
        examples = split(self._tokenizer, task.skill, wanted.examples, wanted.seed)
        return Unit(self._setups[wanted.task], task, examples, wanted)

    def _pool(self, held_out: str) -> Pool:
        others = [name for name in SKILLS if name != held_out]
        return Pool(
            [self._members[name] for name in others], [frozenset([name]) for name in others]
        )


def split(tokenizer: Any, skill: Skill, examples: int, seed: int) -> Split:
    """Return everything that is asked of a skill; the tests are the same for every seed.

    Fewer examples are the first of more.
    """
    trained = round(TRAINED_SHARE * examples)
    drawn = skill.examples("train", examples, seed)
    parts = (drawn[:trained], drawn[trained:], skill.examples("test", TESTS, PROMPT_SEED))
    return Split(*(_encoded(tokenizer, part) for part in parts))


def _encoded(tokenizer: Any, examples: Sequence[Example]) -> tuple[Encoded, ...]:
    """Return examples in tokens, an answer with the token that ends it, as adapters are trained."""
    pairs = [encode(tokenizer, example) for example in examples]
    return tuple(
        Encoded(
            (*question, *answer), (*[IGNORED] * len(question), *answer), tuple(question),
            example.answer,
        )
        for example, (question, answer) in zip(examples, pairs, strict=True)
    )  # fmt: skip
