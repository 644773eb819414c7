"""What a candidate is worth as the engine serves it, and the verdict by that.

The engine's answers are to the examples that the job measured on. Where folds measured, what is
served has learned from those: then the job's marks stay, less each answer that the engine loses of
what is served, and its nats are as much larger. Blocking: call it off the event loop.
"""

from dataclasses import replace
from pathlib import Path
from typing import cast

from merge.adaptive.candidates import Candidate, load_measured
from merge.adaptive.scoring.scored import Scored, figures
from merge.adaptive.verdict import judge
from server.jobs.report import CandidateJson, ReportJson, served_figures


class Judgement:
    """A report whose verdict follows the engine's answers as they come.

    Args:
        report: its verdict is replaced where the job's folder has the candidates' scores.
        folder: of the job.
    """

    def __init__(self, report: ReportJson, folder: Path) -> None:
        self.report, self._folder = report, folder
        self._served: dict[str, Candidate] = {}

    def add(self, candidate: CandidateJson, artifact: str, engine: Scored) -> None:
        """Fill in a candidate's `served`, and judge again.

        Args:
            candidate: of the report.
            artifact: the model that the engine was asked for.
            engine: the scores of its answers, on the examples that the job measured on.

        Raises:
            OSError: the folder cannot be read.
        """
        seed, worth = self.report["seed"], engine
        measured = load_measured(self._folder)
        if measured is not None:
            candidates, questions = measured
            (own,) = (made for made in candidates if made.name == candidate["name"])
            worth = as_served(own, engine)
            self._served[own.name] = replace(own, folded=worth)
            judged = [self._served.get(made.name, made) for made in candidates]
            verdict = judge(judged, self.report["main"], questions=questions, seed=seed)
            self.report.update(cast("ReportJson", verdict.to_json()))
        candidate["served"] = served_figures(
            candidate, artifact, figures(engine, seed=seed), figures(worth, seed=seed)
        )


def as_served(candidate: Candidate, engine: Scored) -> Scored:
    """Return a candidate's judged scores as they are with the engine's answers."""
    if candidate.refit is None:
        return engine
    judged, own = candidate.judged, candidate.refit
    return judged._replace(
        nll=tuple(n + theirs - ours for n, theirs, ours in
                  zip(judged.nll, engine.nll, own.nll, strict=True)),
        exact_match=_kept(judged.exact_match, own.exact_match, engine.exact_match),
        pattern_match=judged.pattern_match and own.pattern_match and engine.pattern_match and _kept(
            judged.pattern_match, own.pattern_match, engine.pattern_match
        ),
    )  # fmt: skip


def _kept(
    judged: tuple[bool, ...], own: tuple[bool, ...], engine: tuple[bool, ...]
) -> tuple[bool, ...]:
    return tuple(
        mark and not (ours and not theirs)
        for mark, ours, theirs in zip(judged, own, engine, strict=True)
    )
