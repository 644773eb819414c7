"""The probe's process: the base is loaded, every adapter is tried on it, and the process ends.

Nothing that an adapter can do to it outlives it, and its memory is given back. Not covered: what is
measured (`server.probe.measure`), and what is made of it (the caller's).
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

if TYPE_CHECKING:
    from server.probe.measure import Measured

# Rounding alone stays far below; the weakest of trained adapters is far above.
NO_EFFECT_NATS = 1e-6


class ProbeFailed(Exception):
    """The probe came to no result; nothing is said about the adapter."""


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What a probe says of one adapter.

    Attributes:
        findings: what speaks against it; one that refuses means that it is not to be served.
        effect: mean KL divergence from the base in nats; None when there are no finite logits.
        signature: float32 vector to find adapters that behave alike by; zero for no effect.
    """

    findings: tuple[Finding, ...]
    effect: float | None
    signature: NDArray[np.float32] | None

    @property
    def passed(self) -> bool:
        """True when nothing was found that keeps the adapter from being served."""
        return all(each.severity != "refuse" for each in self.findings)


def probe(
    model: str, folders: Sequence[Path], *, device: str = "cpu", timeout_seconds: float = 1800.0
) -> Iterator[ProbeReport]:
    """Try adapters on a base, one after the other, and yield a report for each in order.

    Args:
        model: the base, a local folder or a Hub id.
        folders: adapters that admission has passed.
        device: of torch, for example "cuda".
        timeout_seconds: how long the base may take to load, and then each adapter.

    Raises:
        ProbeFailed: with the reason; reports that were yielded before stand.
    """
    with Child["Measured"](_measure, model, list(folders), device) as child:
        try:
            yield from map(_report, child.messages(timeout_seconds))
        except (ChildTimeout, ChildDied, ChildFailed) as error:
            raise ProbeFailed(str(error)) from None


def _report(measured: "Measured") -> ProbeReport:
    findings = []
    if measured.effect is None:
        expected, found = "finite logits on the base", "NaN or infinity"
        findings.append(finding("A090 logits-not-finite", WEIGHTS_NAME, expected, found))
    elif measured.effect < NO_EFFECT_NATS:
        expected, found = f"{NO_EFFECT_NATS:g} nats or more", f"{measured.effect:.3g}"
        findings.append(finding("A091 no-effect", WEIGHTS_NAME, expected, found))
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
