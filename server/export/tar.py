"""Write a plain tar archive (ustar) in bounded memory: what `registry.sources.tar_stream` reads."""

import io
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

_CHUNK_BYTES = 2**20
_END = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive: its name, its size in bytes, and where its bytes come from."""

    name: str
    size: int
    file: BinaryIO


def text_member(name: str, text: str) -> Member:
    """Return a file with this text."""
    data = text.encode()
    return Member(name, len(data), io.BytesIO(data))


def tar_bytes(members: Sequence[Member]) -> int:
    """Return the size of the archive of these files."""
    padded = sum(member.size + -member.size % tarfile.BLOCKSIZE for member in members)
    return padded + len(members) * tarfile.BLOCKSIZE + len(_END)


def tar(members: Iterable[Member]) -> Iterator[bytes]:
    """Yield the archive in chunks of at most 1 MiB; files are read as far as it has got.

    Raises:
        OSError: a file cannot be read, or is shorter than its member says.
    """
    for member in members:
        head = tarfile.TarInfo(member.name)
        head.size = member.size
        yield head.tobuf(tarfile.USTAR_FORMAT)
        left = member.size
        while left:
            chunk = member.file.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise OSError(f"{member.name} ends {left} bytes before its size")
            left -= len(chunk)
            yield chunk
        yield bytes(-member.size % tarfile.BLOCKSIZE)
    yield _END
