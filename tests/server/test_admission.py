"""Admission in worker processes: a report, or the sentence why there is none."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from merge.peft_format import CONFIG_NAME
from registry.admission.admit import AdmissionPolicy, admit
from registry.bases import base_keys
from registry.errors import CheckEnded
from registry.types import Base
from server.admission import AdmissionWorkers, CheckLimits
from tests.registry.conftest import BASE, SHAPES, write_adapter
from tests.server.obedient import obey

POLICY = AdmissionPolicy()
SMALL = CheckLimits(cpu_seconds=1, cpu_seconds_per_gib=0, spare_bytes=2**28)


@pytest.fixture(scope="module")
def workers() -> Iterator[AdmissionWorkers]:
    """Workers that do what folders are named, within small limits."""
    made = AdmissionWorkers(obey, SMALL)
    yield made
    made.close()


def pid(workers: AdmissionWorkers) -> int:
    """Return the process of a check."""
    return int(str(workers(Path("well"), None, POLICY).base))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("burn", r"limit of 1 s of CPU .* signal 24|longer than 10 s"),
        ("fill", "needed more than 268435456 bytes of memory"),
        ("die", "ended by signal 9"),
        ("break", "failed with KeyError"),
    ],
)
def test_a_check_that_takes_too_much_is_ended(
    workers: AdmissionWorkers, name: str, sentence: str
) -> None:
    """The error says what ended it, and the next check has a process of its own."""
    before = pid(workers)
    assert before not in (os.getpid(), 0)
    assert before == pid(workers), "a process stays for the next check"
    with pytest.raises(CheckEnded, match=sentence):
        workers(Path(name), None, POLICY)
    assert before != pid(workers)


def test_a_folder_that_cannot_be_read_is_an_error_of_the_system(workers: AdmissionWorkers) -> None:
    """An OSError arrives as it is, and the process stays."""
    before = pid(workers)
    with pytest.raises(FileNotFoundError):
        workers(Path("gone"), None, POLICY)
    assert before == pid(workers)


def test_a_report_is_the_one_of_this_process(tmp_path: Path) -> None:
    """The report of a worker equals the one that `admit` returns, and so do its errors."""
    folder, tiny_base = (
        write_adapter(tmp_path / "good"),
        Base(BASE, None, SHAPES, base_keys(BASE, ())),
    )
    workers = AdmissionWorkers()
    try:
        for base, known in ((tiny_base, ()), (None, (tiny_base,)), (None, ())):
            assert admit(folder, base, POLICY, known=known) == workers(
                folder, base, POLICY, known=known
            )
        (folder / CONFIG_NAME).rename(folder / "config")
        (folder / "a").symlink_to(folder / "config")
        assert admit(folder, tiny_base, POLICY) == workers(folder, tiny_base, POLICY)
    finally:
        workers.close()
