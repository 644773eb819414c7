"""Read a plain tar archive from a stream in bounded memory.

The `tarfile` module is not used, because it reads whole extension headers into memory, and the
sender chooses their length. Covered: regular files and folders of ustar, GNU and pax archives
whose names fit the header (100 characters, or 255 in two parts). Refused: links, devices, sparse
files, longer names, compression. Format: POSIX.1-2001, "ustar Interchange Format".
"""

from collections.abc import Iterable, Iterator

from registry.sources.errors import UploadInvalid, UploadTooLarge

BLOCK_BYTES = 512
MAX_MEMBERS = 100
# Extension headers hold times and attributes, usually in a few hundred bytes.
_MAX_EXTENSION_BYTES = 2**16
_REGULAR, _FOLDER, _EXTENSIONS = b"0\0", b"5", b"xg"
_RENAMING = (b" path=", b" size=", b" GNU.sparse")
# The first bytes of formats that clients send in place of a tar.
_COMPRESSED = {
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}  # fmt: skip


class _Reader:
    """Exact reads from chunks of any size; reading beyond `limit` bytes is an error."""

    def __init__(self, chunks: Iterable[bytes], limit: int) -> None:
        self._chunks = iter(chunks)
        self._limit = self._left = limit
        self._rest = memoryview(b"")

    def some(self, most: int) -> memoryview:
        """Return between 1 and `most` bytes, or none at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return self._rest
            self._left -= len(chunk)
            if self._left < 0:
                raise UploadTooLarge(self._limit)
            self._rest = memoryview(chunk)
        data, self._rest = self._rest[:most], self._rest[most:]
        return data

    def pieces(self, size: int) -> Iterator[bytes]:
        """Yield exactly `size` bytes in chunks."""
        while size > 0:
            data = self.some(size)
            if not data:
                raise UploadInvalid("the archive ends in the middle of a file")
            size -= len(data)
            yield bytes(data)

    def exactly(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        return b"".join(self.pieces(size))


def read_tar(chunks: Iterable[bytes], limit: int) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield path and bytes of every regular file; read each file before the next one.

    Args:
        chunks: the archive, in chunks of any size.
        limit: the largest accepted size of the archive.

    Raises:
        UploadInvalid: the archive is not a plain tar, is truncated, or holds links or devices.
        UploadTooLarge: the archive is larger than `limit`.
    """
    reader = _Reader(_unpacked(chunks), limit)
    for _ in range(MAX_MEMBERS):
        header = reader.exactly(BLOCK_BYTES)
        if not any(header):
            return
        name, size, kind = _parse(header)
        padding = -size % BLOCK_BYTES
        if kind in _EXTENSIONS:
            _check_extension(reader, size)
        elif kind in _REGULAR:
            content = reader.pieces(size)
            yield name, content
            for _unread in content:
                pass
        elif kind != _FOLDER or size:
            raise UploadInvalid(f"{name[:80]!a} is not a regular file, or its name is too long")
        reader.exactly(padding)
    raise UploadInvalid(f"more than {MAX_MEMBERS} files")


def _unpacked(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks; refuse a first chunk that begins a compressed file."""
    first = True
    for chunk in chunks:
        for mark, kind in _COMPRESSED.items() if first else ():
            if chunk.startswith(mark):
                raise UploadInvalid(f"it is compressed ({kind}): send it unpacked, as a plain .tar")
        first = first and not chunk
        yield chunk


def _parse(header: bytes) -> tuple[str, int, bytes]:
    """Parse the 512-byte header of one member into name, size and type."""
    # The checksum is computed with blanks in its own field.
    if _octal(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise UploadInvalid("it is not a plain tar archive")
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    path = (prefix + b"/" + name if prefix else name).decode("utf-8", "replace")
    return path, _octal(header[124:136]), header[156:157]


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if not digits or digits.strip(b"01234567"):
        raise UploadInvalid("it is not a plain tar archive (a header holds an invalid number)")
    return int(digits, 8)


def _check_extension(reader: _Reader, size: int) -> None:
    """Skip a pax header; refuse one that overrides the next member's name or size."""
    if size > _MAX_EXTENSION_BYTES:
        raise UploadInvalid("an extension header is too long")
    header = reader.exactly(size)
    if any(key in header for key in _RENAMING):
        raise UploadInvalid("a name or a size in it is too long for a plain tar archive")
