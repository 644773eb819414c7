"""A process that admits folders and says what it cost; it imports little beside admission.

Started by spawning: a forked one would begin with all that the tests have in memory.
"""

import json
import re
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from registry.admission.admit import AdmissionPolicy, admit
from registry.types import Base


def peaks(folders: Sequence[Path], base: Base, answers: Connection) -> None:
    """Admit each folder and send the process's peak of memory so far, in bytes, after each."""
    for folder in folders:
        report = admit(folder, None, AdmissionPolicy(), known=[base])
        json.dumps(report.to_json(), allow_nan=False)
        answers.send(_peak_bytes())


def _peak_bytes() -> int:
    # Not getrusage: its ru_maxrss survives exec, so it begins with the peak of the tests' process.
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^VmHWM:\s+([0-9]+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
