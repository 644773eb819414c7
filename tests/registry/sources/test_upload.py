"""Uploads: limited while they arrive, confined to the workspace, and complete or absent."""

import contextlib
import gzip
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.errors import AdmissionRefused, NameInvalid, RegistryError
from registry.service import Registry
from registry.sources.errors import UploadInvalid, UploadTooLarge
from registry.sources.upload import import_tar
from registry.storage.blobs import LocalBlobs
from registry.storage.errors import StorageFailed
from registry.types import Registration
from tests.registry.conftest import write_adapter

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
LIMIT = 10**6


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """The files of a valid upload."""
    folder = write_adapter(tmp_path / "sent")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def tar(
    files: dict[str, bytes],
    *extra: tarfile.TarInfo,
    format: int = tarfile.PAX_FORMAT,  # noqa: A002
) -> bytes:
    """Return an archive of files, and of members without content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for member in extra:
            archive.addfile(member)
    return out.getvalue()


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    """Return a member that is not a file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def pieces(data: bytes, size: int = 700) -> Iterator[bytes]:
    """Split bytes into chunks of odd sizes."""
    yield from (data[start : start + size] for start in range(0, len(data), size))


def send(registry: Registry, data: bytes, limit: int = LIMIT) -> Registration:
    """Upload an archive as `legal`."""
    return import_tar(registry, pieces(data), name="legal", limit_bytes=limit, actor="ann")


@pytest.mark.parametrize("prefix", ["", "./", "my-adapter/", "./my-adapter/"])
def test_a_tar_becomes_a_version(registry: Registry, files: dict[str, bytes], prefix: str) -> None:
    """Files are at the top level or in a folder; other members are skipped."""
    sent = {prefix + name: data for name, data in files.items()} | {prefix + "x.bin": b"\x80"}
    made = send(registry, tar(sent, special(prefix + "logs", tarfile.DIRTYPE)))
    version = made.version
    assert ("legal", "upload", "mit", "ann") == (
        version.name, version.source, version.licence, version.created_by,
    )  # fmt: skip
    assert () == made.report.findings


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (special("../x", tarfile.REGTYPE), "out of the archive"),
        (special("a/../../x", tarfile.REGTYPE), "out of the archive"),
        (special("/etc/x", tarfile.REGTYPE), "out of the archive"),
        (special("README.md", tarfile.SYMTYPE, "/etc/passwd"), "not a regular file"),
        (special("README.md", tarfile.LNKTYPE, CONFIG), "not a regular file"),
        (special("dev", tarfile.CHRTYPE), "not a regular file"),
        (special("pipe", tarfile.FIFOTYPE), "not a regular file"),
        (special(CONFIG, tarfile.REGTYPE), "twice"),
        (special(f"other/{CONFIG}", tarfile.REGTYPE), "several folders"),
    ],
)
def test_an_unsafe_archive_is_refused(
    registry: Registry, files: dict[str, bytes], extra: tarfile.TarInfo, said: str
) -> None:
    """Paths out of the archive, links, devices and duplicates are refused."""
    files.pop("README.md")
    with pytest.raises(UploadInvalid, match=said):
        send(registry, tar(files, extra))
    assert () == registry.catalogue.models()


@pytest.mark.parametrize(
    "mark", [gzip.compress(b"", mtime=0), b"BZh9", b"\xfd7zXZ\0", b"PK\x03\x04"]
)
def test_a_compressed_archive_is_told_as_one(registry: Registry, mark: bytes) -> None:
    """The message asks for an unpacked archive."""
    with pytest.raises(UploadInvalid, match=r"compressed .* send it unpacked"):
        send(registry, mark + b"\0" * 600)


def test_the_origin_of_an_upload_is_kept(registry: Registry, files: dict[str, bytes]) -> None:
    """The client's origin is stored after "upload:", so that it cannot pass for another source."""
    made = import_tar(
        registry, [tar(files)], name="legal", limit_bytes=LIMIT, origin="hf:acme/legal"
    )
    assert "upload:hf:acme/legal" == made.version.source


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_usual_kind_of_tar_is_read(
    registry: Registry, files: dict[str, bytes], format_: int
) -> None:
    """Old and new formats, nanosecond times and non-Latin folders are read."""
    sent = {f"модель/{name}": data for name, data in files.items()}
    if format_ == tarfile.PAX_FORMAT:
        sent = files
    assert send(registry, tar(sent, format=format_)).created


@pytest.mark.parametrize("format_", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_refused_by_name(
    registry: Registry, files: dict[str, bytes], format_: int
) -> None:
    """A name that is too long is refused, not truncated."""
    long = "x" * 120 + "/"
    with pytest.raises(UploadInvalid, match="too long"):
        send(registry, tar({long + name: data for name, data in files.items()}, format=format_))


def test_an_extension_header_is_not_read_into_memory(registry: Registry) -> None:
    """An extension header over the limit is refused before it arrives."""
    header = special("x", tarfile.XHDTYPE)
    header.size = 2**30
    block = header.tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(UploadInvalid, match="extension header is too long"):
        import_tar(registry, [block], name="legal", limit_bytes=2**31)


def test_what_is_no_plain_tar_is_refused(registry: Registry, files: dict[str, bytes]) -> None:
    """Compressed, truncated and other files are refused."""
    whole = tar(files)
    for data in (gzip.compress(whole), whole[:700], b"PK\x03\x04" + b"\0" * 600, b"no"):
        with pytest.raises((UploadInvalid, AdmissionRefused)):
            send(registry, data)


def test_an_empty_archive_is_refused_by_admission(registry: Registry) -> None:
    """An archive without an adapter gets a report."""
    with pytest.raises(AdmissionRefused, match="A001 config-missing"):
        send(registry, tar({}))


def test_an_archive_of_very_many_files_is_refused(registry: Registry) -> None:
    """An archive with too many files is refused."""
    with pytest.raises(UploadInvalid, match="more than 100 files"):
        send(registry, tar({f"f{number}": b"" for number in range(150)}))


def test_the_limit_counts_bytes_as_they_come(
    registry: Registry, files: dict[str, bytes], blobs: LocalBlobs
) -> None:
    """At most the limit is written, whatever size is announced, and nothing remains."""
    with pytest.raises(UploadTooLarge, match="1000 bytes"):
        send(registry, tar(files), limit=1000)
    assert frozenset() == blobs.digests()
    assert 0 == blobs.sweep(older_than_seconds=-1)


def test_an_upload_that_never_ends_is_cut(registry: Registry) -> None:
    """The limit also counts bytes outside of files."""
    taken = 0

    def forever() -> Iterator[bytes]:
        nonlocal taken
        yield tar({"x": b""})[:512]
        while True:
            taken += 2**16
            yield tar({"x": b""})[:512] * 128

    with pytest.raises((UploadTooLarge, UploadInvalid)):
        import_tar(registry, forever(), name="legal", limit_bytes=LIMIT)
    assert taken < 2**22


def test_a_bad_name_is_refused_before_a_byte_is_read(registry: Registry) -> None:
    """An invalid adapter name is refused at once."""

    def unread() -> Iterator[bytes]:
        raise AssertionError("the upload was read")
        yield b""

    with pytest.raises(NameInvalid):
        import_tar(registry, unread(), name="Legal!", limit_bytes=LIMIT)


def test_a_full_disk_is_said(
    registry: Registry, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is StorageFailed, not an error of the client."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StorageFailed, match="No space left"):
        send(registry, tar(files))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(position=st.integers(0, 4000), bytes_=st.binary(min_size=1, max_size=40))
def test_a_damaged_archive_is_an_error_of_ours(
    registry: Registry, files: dict[str, bytes], position: int, bytes_: bytes
) -> None:
    """A damaged archive gives a version or a registry error."""
    data = tar(files)
    with contextlib.suppress(RegistryError):
        send(registry, data[:position] + bytes_ + data[position + len(bytes_) :])
    assert {"legal"} >= {model.id for model in registry.catalogue.models()}
