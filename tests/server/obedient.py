"""An admission that does what a folder's name says; worker processes import this module."""

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

from registry.admission.admit import AdmissionPolicy
from registry.types import AdmissionReport, Base


def burn(
    path: Path, base: Base | None, policy: AdmissionPolicy, *, known: Sequence[Base] = ()
) -> AdmissionReport:
    """Compute for ever, with the interpreter's lock held: a regular expression does."""
    re.match(r"(a+)+$", "a" * 60 + "!")
    raise AssertionError


def obey(
    path: Path, base: Base | None, policy: AdmissionPolicy, *, known: Sequence[Base] = ()
) -> AdmissionReport:
    """Do what the folder's name says."""
    if path.name == "burn":
        burn(path, base, policy, known=known)
    if path.name == "fill":
        bytearray(2**30)
    if path.name == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if path.name == "gone":
        path.read_bytes()
    if path.name == "break":
        raise KeyError("secret")
    return AdmissionReport(str(os.getpid()), (), None, None)
