"""Addresses of adapters on the Hugging Face Hub, as text.

    address   = [ "hf:" ] owner "/" name [ "@" revision ] [ "#" subfolder ]

Not covered: whether the address exists (`registry.sources.hub_client`).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from registry.references import suggest_name
from registry.sources.errors import HubAddressInvalid

PREFIX = "hf:"
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
# Branches, tags, commits and refs/pr/7.
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,99}")
_SEGMENT = re.compile(r"[A-Za-z0-9._+=-][A-Za-z0-9._+= -]{0,99}")
_MAX_SUBFOLDER = 200
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class HubAddress:
    """An adapter's folder in a model repository."""

    repo: str  # owner/name
    revision: str | None = None
    subfolder: str | None = None

    def __str__(self) -> str:
        """Return the text that `parse_address` parses to this address."""
        revision = "" if self.revision is None else f"@{self.revision}"
        subfolder = "" if self.subfolder is None else f"#{self.subfolder}"
        return f"{PREFIX}{self.repo}{revision}{subfolder}"

    @property
    def pinned(self) -> bool:
        """True if the revision is a commit, whose files never change."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None

    def at(self, commit: str) -> "HubAddress":
        """Return this address, pinned to a commit."""
        return replace(self, revision=commit)

    def path(self, file: str) -> str:
        """Return the path of an adapter's file in the repository."""
        return file if self.subfolder is None else f"{self.subfolder}/{file}"

    def name(self) -> str:
        """Return the adapter name derived from the address: owner/name[/subfolder]."""
        return suggest_name(f"{self.repo}/{self.subfolder or ''}") or self.repo


def parse_address(text: str) -> HubAddress:
    """Parse an address; the leading `hf:` is optional.

    Raises:
        HubAddressInvalid: a part is malformed; the error names it.
    """
    rest, hash_mark, subfolder = text.strip().removeprefix(PREFIX).partition("#")
    repo, at, revision = rest.partition("@")
    if not _REPO.fullmatch(repo) or ".." in repo or "--" in repo:
        raise HubAddressInvalid(text, "the repository is not owner/name")
    if at and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise HubAddressInvalid(text, "the revision is not a branch, tag or commit")
    if hash_mark and not _is_folder(subfolder):
        raise HubAddressInvalid(text, "the subfolder is not a path inside the repository")
    return HubAddress(repo, revision or None, subfolder or None)


def _is_folder(text: str) -> bool:
    parts = text.split("/")
    return len(text) <= _MAX_SUBFOLDER and all(
        _SEGMENT.fullmatch(part) and part not in (".", "..") for part in parts
    )


def read_addresses(lines: Iterable[str]) -> Iterator[HubAddress]:
    """Yield the addresses of a list, one per line; empty lines and comments (`# …`) are skipped.

    Raises:
        HubAddressInvalid: a line is not an address.
    """
    for line in lines:
        if line.strip() and not line.lstrip().startswith("# ") and line.strip() != "#":
            yield parse_address(line)
