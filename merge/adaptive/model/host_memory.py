"""Memory that this process can still take: what the host has, and what its control groups leave.

In a container the host's figure is the whole machine's; the kernel ends a process that goes beyond
its group's limit.
"""

from pathlib import Path

import psutil

_MEMBERSHIP, _ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def available_bytes() -> int:
    """Return the bytes that this process can still take."""
    free, left = int(psutil.virtual_memory().available), cgroup_bytes_left()
    return free if left is None else min(free, left)


def cgroup_bytes_left(membership: Path = _MEMBERSHIP, root: Path = _ROOT) -> int | None:
    """Return what the control groups of this process leave; None without a limit.

    A limit of any group above counts too. Cached files that the kernel would drop count as free.

    Args:
        membership: the list of a process' groups, in the form of /proc/self/cgroup.
        root: where the groups' files are, of version 1 or 2.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    left = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, files = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "memory"
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = top / path.lstrip("/")
        groups = [group, *group.parents][: len(group.relative_to(top).parts) + 1]
        left += [size for folder in groups if (size := _left(folder, *files)) is not None]
    return min(left, default=None)


def _left(group: Path, limit: str, usage: str, droppable: str) -> int | None:
    try:
        most, used = int((group / limit).read_text()), int((group / usage).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return max(0, most - used + int(stat.get(droppable, 0)))
    except (OSError, ValueError):  # no such group, or "max"
        return None
