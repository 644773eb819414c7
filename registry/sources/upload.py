"""Import adapters that a client uploads as a tar stream.

Covered: a limit on all bytes, counted as they arrive; one folder of regular files under plain
names. Nothing is written outside the workspace, and a refused upload leaves no files.
Not covered: permission to upload (the server) and the files' content (`registry.admission.admit`).
Compressed archives are refused: a kilobyte can unpack to gigabytes, and weights hardly compress.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from merge.peft_format import CONFIG_NAME, WEIGHTS_NAME
from registry.admission.card import CARD_NAME
from registry.admission.tokenizer import TOKENIZER_FILES
from registry.references import check_name
from registry.service import Registry
from registry.sources.errors import UploadInvalid, UploadTooLarge
from registry.sources.tar_stream import read_tar
from registry.storage.errors import StorageFailed
from registry.types import Registration

FILES = (CONFIG_NAME, WEIGHTS_NAME, CARD_NAME, *TOKENIZER_FILES)
_SOURCE = "upload"
# The size of an archive beyond its files: headers, padding, names.
_TAR_OVERHEAD_BYTES = 2**20


def import_tar(
    registry: Registry,
    chunks: Iterable[bytes],
    *,
    name: str,
    limit_bytes: int,
    base: str | None = None,
    alias: str | None = None,
    origin: str | None = None,
    actor: str = "local",
) -> Registration:
    """Register the adapter in a plain .tar that arrives in chunks.

    The files are at the top level or in one folder; files other than `FILES` are skipped.

    Args:
        registry: the registry.
        chunks: the archive, in chunks of any size.
        name: the name of the adapter.
        limit_bytes: the largest total size of its files.
        base: as `Adapters.register`.
        alias: as `Adapters.register`.
        origin: the origin that the client states; stored in the version's source.
        actor: recorded as the version's author.

    Raises:
        UploadInvalid, UploadTooLarge: the archive is malformed, unsafe, truncated or too large.
        StorageFailed: the disk is full or unavailable.
        RegistryError: as `Adapters.register`.
    """
    check_name(name)  # before a gigabyte is received
    source = _SOURCE if origin is None else f"{_SOURCE}:{origin}"
    try:
        with registry.adapters.workspace() as workspace:
            folder = workspace / "upload"
            folder.mkdir()
            unpack(chunks, folder, limit_bytes)
            return registry.adapters.register(
                folder, name=name, base=base, alias=alias, source=source, actor=actor
            )
    except OSError as error:
        raise StorageFailed(str(error)) from error


def unpack(chunks: Iterable[bytes], folder: Path, limit_bytes: int) -> None:
    """Write the adapter's files of a plain .tar that arrives in chunks into an empty folder.

    Raises:
        UploadInvalid, UploadTooLarge: as `import_tar`.
        OSError: the disk is full or unavailable.
    """
    _write(folder, _adapter_files(read_tar(chunks, limit_bytes + _TAR_OVERHEAD_BYTES)), limit_bytes)


def _write(folder: Path, files: Iterable[tuple[str, Iterable[bytes]]], limit: int) -> None:
    left = limit
    for name, chunks in files:
        try:
            with (folder / name).open("xb") as out:
                for chunk in chunks:
                    left -= len(chunk)
                    if left < 0:
                        raise UploadTooLarge(limit)
                    out.write(chunk)
        except FileExistsError:
            raise UploadInvalid(f"{name} occurs twice") from None


def _adapter_files(
    files: Iterable[tuple[str, Iterable[bytes]]],
) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Yield name and bytes of each of the adapter's files, in the archive's order."""
    folders: set[PurePosixPath] = set()
    for text, content in files:
        path = PurePosixPath(text)
        if path.is_absolute() or ".." in path.parts:
            raise UploadInvalid(f"{text[:80]!a} is a path out of the archive")
        if path.name not in FILES:
            continue
        folders.add(path.parent)
        if len(folders) > 1:
            raise UploadInvalid("its files are in several folders; send one adapter at a time")
        yield path.name, content
