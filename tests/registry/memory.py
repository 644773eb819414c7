"""A process that admits folders and says what it cost; it imports little beside admission.

Started by spawning: a forked one would begin with all that the tests have in memory.
"""

import json
import resource
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from registry.admission import AdmissionPolicy, admit
from registry.types import Base


def peaks(folders: Sequence[Path], base: Base, answers: Connection) -> None:
    """Admit each folder and send the process's peak of memory so far, in bytes, after each."""
    for folder in folders:
        report = admit(folder, None, AdmissionPolicy(), known=[base])
        json.dumps(report.to_json(), allow_nan=False)
        answers.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
