"""What `weft serve` checks before vLLM starts: a free port, keys, a model with all its weights.

vLLM finds the same faults after a minute or two, and tells them in its log. The lock on the home
is `server.home.locked_home`.
"""

import json
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from server.settings import Settings
from server.sites import is_loopback

_LENGTH_BYTES = 8  # of a safetensors header's length
_LFS_POINTER = b"version https://git-lfs"
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


class PortTaken(OSError):
    """The gateway's port cannot be bound."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(
            f"cannot listen on {host}:{port} ({reason}): stop the program that does, or choose "
            "another port with --port or WEFT_PORT"
        )


class OpenToOthers(OSError):
    """The gateway would listen to other machines, and no key exists."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"{address} is reachable from other machines and no key exists, so anybody would be an "
            "admin: create a key with `weft keys create NAME --role admin --all-namespaces` or set "
            "WEFT_API_KEYS, or listen on 127.0.0.1"
        )


class ModelUnusable(OSError):
    """The base's files are missing or incomplete."""


@contextmanager
def bound_socket(host: str, port: int) -> Iterator[socket.socket]:
    """Bind the gateway's address; it does not listen until the gateway takes requests.

    Raises:
        PortTaken: another process has the port, or the address is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise PortTaken(host, port, error.strerror or str(error)) from error
    with bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
        except OSError as error:
            raise PortTaken(host, port, error.strerror or str(error)) from error
        yield bound


def check_reach(bound: socket.socket, *, has_keys: bool) -> None:
    """Check that only this machine can reach a gateway without keys.

    Raises:
        OpenToOthers: others can.
    """
    address = str(bound.getsockname()[0])
    if not has_keys and not is_loopback(address):
        raise OpenToOthers(address)


def check_model(settings: Settings) -> None:
    """Check the files of the base that an engine on this machine would load.

    Raises:
        ModelUnusable: no folder, no config.json, missing or truncated weights; or a Hub id that is
            neither in the cache nor to be had.
    """
    if settings.engine_url:
        return
    folder = Path(settings.model)
    if folder.is_dir():
        _check_folder(folder, weights="load-format" not in settings.engine_args)
    elif settings.model.startswith((".", "/", "~")) or settings.model.count("/") > 1:
        raise ModelUnusable(
            f"the model {folder.absolute()} is not a folder: pass a folder with config.json and "
            "weights, or a Hub id such as meta-llama/Llama-3.1-8B-Instruct"
        )
    else:
        _check_hub(settings.model)


def _check_folder(folder: Path, *, weights: bool) -> None:
    if not (folder / "config.json").is_file():
        raise ModelUnusable(f"{folder} has no config.json: it is not a model's folder")
    if not weights:
        return
    indexes = [*folder.glob("*.safetensors.index.json"), *folder.glob("*.bin.index.json")]
    if indexes:
        for index in indexes:
            _check_files(folder, _shards(index), index.name)
        return
    files = sorted(path.name for pattern in _WEIGHTS for path in folder.glob(pattern))
    if not files:
        raise ModelUnusable(f"{folder} has no weights: expected {', '.join(_WEIGHTS)}")
    _check_files(folder, files, None)


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnusable(f"{index} is not an index of weights: {error!r}") from error


def _check_files(folder: Path, names: Iterable[str], index: str | None) -> None:
    names = list(names)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ModelUnusable(
            f"{folder}: {len(missing)} of {len(names)} files of {index} are missing, the first is "
            f"{missing[0]}: download the model again"
        )
    for name in names:
        _check_complete(folder / name)


def _check_complete(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_LENGTH_BYTES)
        if (head + file.read(len(_LFS_POINTER) - _LENGTH_BYTES)) == _LFS_POINTER:
            raise ModelUnusable(f"{path} is a Git LFS pointer: run `git lfs pull` in its folder")
        if path.suffix != ".safetensors":
            if size == 0:
                raise ModelUnusable(f"{path} is empty: download the model again")
            return
        length = int.from_bytes(head, "little")
        file.seek(_LENGTH_BYTES)
        try:
            header = json.loads(file.read(length)) if length < size else {}
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name[:2] != "__"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise ModelUnusable(f"{path} is not a safetensors file: {error!r}") from error
    expected = _LENGTH_BYTES + length + max(ends, default=0)
    if size < expected:
        raise ModelUnusable(
            f"{path} is truncated: {size} bytes of {expected}. Download the model again"
        )


def _check_hub(model: str) -> None:
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(model, "config.json"), str):
        return
    try:
        hf_hub_download(model, "config.json")
    except Exception as error:  # the Hub's client raises many types
        offline = [name for name in _OFFLINE if os.environ.get(name, "0") not in ("0", "")]
        reason = f"{offline[0]} is set" if offline else str(error).strip().partition("\n")[0]
        raise ModelUnusable(
            f"the model {model} is not in the Hub cache {constants.HF_HUB_CACHE} and cannot be "
            f"fetched ({reason}): run `hf download {model}` where the Hub can be reached, or pass "
            "a local folder with --model"
        ) from error
