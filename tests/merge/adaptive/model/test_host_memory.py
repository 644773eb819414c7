"""Memory that a job may take is bounded by the control group, not only by the host."""

from pathlib import Path

import psutil
import pytest
import torch

from merge.adaptive.model import base, host_memory
from merge.adaptive.model.host_memory import available_bytes, cgroup_bytes_left

MIB = 2**20


def group(folder: Path, *, limit: str, used: int, cached: int = 0, version: int = 2) -> None:
    """Write the files of a control group."""
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {cached}\n")


@pytest.mark.parametrize(
    ("line", "folder", "version"),
    [
        ("0::/", "", 2),
        ("0::/system.slice/weft.service", "system.slice/weft.service", 2),
        ("5:cpu,memory:/docker/1", "memory/docker/1", 1),
        ("5:memory:/docker/elsewhere", "memory", 1),  # the container sees only its own group
    ],
)
def test_limits_of_groups(tmp_path: Path, line: str, folder: str, version: int) -> None:
    """The limit of a process' group is read where both versions of control groups keep it."""
    (tmp_path / "cgroup").write_text(f"12:pids:/x\n{line}\n")
    group(tmp_path / folder, limit=str(100 * MIB), used=70 * MIB, cached=MIB, version=version)

    assert 31 * MIB == cgroup_bytes_left(tmp_path / "cgroup", tmp_path)


def test_the_narrowest_group_counts(tmp_path: Path) -> None:
    """A limit of a group above counts where it leaves less; `max` is no limit."""
    (tmp_path / "cgroup").write_text("0::/a/b\n")
    group(tmp_path / "a/b", limit="max", used=0)
    group(tmp_path / "a", limit=str(10 * MIB), used=12 * MIB)

    assert 0 == cgroup_bytes_left(tmp_path / "cgroup", tmp_path)


def test_without_groups_the_host_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a limit, and where there are no control groups, the host's free memory counts."""
    assert None is cgroup_bytes_left(tmp_path / "missing", tmp_path)
    monkeypatch.setattr(host_memory, "cgroup_bytes_left", lambda: None)

    assert 0 < available_bytes() <= psutil.virtual_memory().total


def test_a_job_is_admitted_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job on the CPU gets what its control group leaves."""
    monkeypatch.setattr(host_memory, "cgroup_bytes_left", lambda: 5 * MIB)

    assert 5 * MIB == base._free(torch.device("cpu"))
