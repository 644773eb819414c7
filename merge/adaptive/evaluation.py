"""How each member of the pool does alone on the job's examples, measured once for all folds.

A member does not depend on what a fold leaves out, so its answers are: each fold takes those to the
examples that it may see. Not covered: which members are chosen by them (`selection`).
"""

import hashlib
import json
from collections.abc import Sequence

from merge.adaptive.context import JobContext
from merge.adaptive.pool import MemberScore, PoolMember, ScoreMemory
from merge.adaptive.scoring.scored import Scored
from merge.adaptive.selection import Evaluate
from merge.adaptive.training import Progress
from merge.peft_format import open_folder


class Evaluation:
    """Scores of members on examples that no round measures on.

    Args:
        context: whose `train` are these examples.
        positions: of them among all examples of the job.
        members: how many there are.
        memory: scores that other jobs have measured.
    """

    def __init__(
        self, context: JobContext, positions: Sequence[int], members: int, memory: ScoreMemory
    ) -> None:
        self._context, self._members, self._memory = context, members, memory
        self._rows = {position: row for row, position in enumerate(positions)}
        self._seen: dict[str, Scored] = {}
        self.task = task_of(context)

    def on(self, positions: Sequence[int]) -> Evaluate:
        """Return the function that scores a member on some of the examples."""
        rows = [self._rows[position] for position in positions]

        def evaluate(member: PoolMember) -> MemberScore:
            scored = self._scored(member).only(rows)
            return MemberScore(scored.accuracy, scored.loss)

        return evaluate

    def _scored(self, member: PoolMember) -> Scored:
        if member.digest not in self._seen:
            done = len(self._seen) + 1
            self._context.watch(Progress("evaluation", done, self._members))
            self._seen[member.digest] = self._measured(member)
        return self._seen[member.digest]

    def _measured(self, member: PoolMember) -> Scored:
        known = self._memory.get(self.task, member.digest)
        if known is not None:
            return known
        context = self._context
        scored = context.scorer.score(context.updates(open_folder(member.path)), context.train)
        self._memory.put(self.task, member.digest, scored)
        return scored


def task_of(context: JobContext) -> str:
    """Return a digest of everything but the adapter that a score on `train` depends on."""
    options = context.options
    text = json.dumps(
        [context.setting.base, options.pattern, options.longest_answer,
         [(example.tokens, example.labels) for example in context.train]]
    )  # fmt: skip
    return hashlib.sha256(text.encode()).hexdigest()
