"""Errors of search. As in `registry.errors`, docstrings are messages."""

from registry.errors import RegistryError
from registry.scanner import pointer
from registry.types import EmbeddingKind


class FilterInvalid(RegistryError):
    """The filter cannot be read: expected {expected} at position {position}
    {pointer}
    """

    def __init__(self, text: str, position: int, expected: str) -> None:
        self.text = text
        self.position = position
        self.expected = expected
        self.pointer = pointer(text, position)
        super().__init__()


class TagInvalid(RegistryError):
    """{tag!r} is not a valid tag: expected {expected}."""

    def __init__(self, tag: str, expected: str) -> None:
        self.tag = tag
        self.expected = expected
        super().__init__()


class DescriptionBusy(RegistryError):
    """The tags or examples of {name} are changed by others all the time: send the request again."""

    retry_after_seconds = 1

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__()


class NoEmbedding(RegistryError):
    """{reference} has no {kind} embedding to compare with: run `weft db embed` or probe it."""

    def __init__(self, reference: str, kind: EmbeddingKind) -> None:
        self.reference = reference
        self.kind = kind
        super().__init__()
