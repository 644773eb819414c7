"""Runs the probe in a child process: it loads the base, measures every adapter, and ends.

Whatever an adapter does to the process ends with it, and its memory is freed. Not covered: the
measurement (`server.probe.measure`), and what follows from a report (the caller).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from merge.peft_format import WEIGHTS_NAME
from registry.admission.findings import finding
from registry.types import Finding
from server.children import Child, ChildDied, ChildFailed, ChildTimeout
from server.environment import hub_names

if TYPE_CHECKING:
    from server.probe.measure import Measured

# Far above rounding, and far below the weakest trained adapter.
NO_EFFECT_NATS = 1e-6


class ProbeFailed(Exception):
    """The probe failed, which says nothing about the adapter."""


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """The probe's report on one adapter.

    Attributes:
        findings: its defects; an adapter with a finding of severity "refuse" must not be served.
        effect: mean KL divergence from the base in nats; None when there are no finite logits.
        signature: float32 vector for finding adapters that behave alike; zero for no effect.
    """

    findings: tuple[Finding, ...]
    effect: float | None
    signature: NDArray[np.float32] | None

    @property
    def passed(self) -> bool:
        """True if no finding refuses the adapter."""
        return all(finding.severity != "refuse" for finding in self.findings)


def probe(
    model: str, folders: Sequence[Path], *, device: str = "cpu", timeout_seconds: float = 1800.0
) -> Iterator[ProbeReport]:
    """Run adapters on a base, one after the other, and yield a report for each, in order.

    Args:
        model: the base, a local folder or a Hub id.
        folders: adapters that admission has passed.
        device: of torch, for example "cuda".
        timeout_seconds: the limit for the base with the first adapter, then for each adapter.

    Raises:
        ProbeFailed: the message has the reason; the reports that were yielded are valid.
    """
    with Child["Measured"](_measure, model, list(folders), device, names=hub_names(model)) as child:
        try:
            yield from map(_report, child.messages(timeout_seconds))
        except (ChildTimeout, ChildDied, ChildFailed) as error:
            raise ProbeFailed(str(error)) from None


def _report(measured: "Measured") -> ProbeReport:
    findings = []
    if measured.effect is None:
        expected, actual = "finite logits on the base", "NaN or infinity"
        findings.append(finding("A090 logits-not-finite", WEIGHTS_NAME, expected, actual))
    elif measured.effect < NO_EFFECT_NATS:
        expected, actual = f"{NO_EFFECT_NATS:g} nats or more", f"{measured.effect:.3g}"
        findings.append(finding("A091 no-effect", WEIGHTS_NAME, expected, actual))
    return ProbeReport(tuple(findings), measured.effect, measured.signature)


def _measure(
    model: str, folders: list[Path], device: str, send: Callable[["Measured"], None]
) -> None:
    probe = _load(model, device)
    for folder in folders:
        send(probe.measure(folder))


def _load(model: str, device: str) -> Any:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    from server.probe.measure import Probe

    logging.disable_progress_bar()
    base = AutoModelForCausalLM.from_pretrained(model, dtype="auto").to(device).eval()
    return Probe(base, AutoTokenizer.from_pretrained(model))
