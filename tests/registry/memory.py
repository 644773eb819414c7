"""A process that admits folders and reports its memory; it imports little except admission.

The tests spawn it, because a forked process would begin with the memory of the tests.
"""

import json
import re
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from registry.admission.admit import AdmissionPolicy, admit
from registry.types import Base


def peaks(folders: Sequence[Path], base: Base, answers: Connection) -> None:
    """Admit each folder, and send the process's peak memory in bytes after each."""
    for folder in folders:
        report = admit(folder, None, AdmissionPolicy(), known=[base])
        json.dumps(report.to_json(), allow_nan=False)
        answers.send(_peak_bytes())


def _peak_bytes() -> int:
    # Not getrusage: its ru_maxrss survives exec, so it begins with the peak of the tests' process.
    status = Path("/proc/self/status").read_text()
    match = re.search(r"^VmHWM:\s+([0-9]+) kB$", status, re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024
