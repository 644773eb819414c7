"""What a search raises; as in `registry.errors`, docstrings are messages."""

from registry.errors import RegistryError
from registry.types import EmbeddingKind


class FilterInvalid(RegistryError):
    """The filter cannot be read: expected {expected} at position {position}
    {window}
    {indent}^
    """

    def __init__(self, text: str, position: int, expected: str) -> None:
        self.text = text
        self.position = position
        self.expected = expected
        # A window keeps a hostile kilobyte out of the message; the caret stays under its place.
        start = max(0, position - 60)
        part = text[start : position + 20]
        self.window = "".join(c if c.isprintable() else "?" for c in part)
        self.indent = " " * (position - start)
        super().__init__()


class TagInvalid(RegistryError):
    """{tag!r} cannot be a tag: expected {expected}."""

    def __init__(self, tag: str, expected: str) -> None:
        self.tag = tag
        self.expected = expected
        super().__init__()


class NoEmbedding(RegistryError):
    """{reference} has no {kind} embedding to compare with: run `weft db embed` or probe it."""

    def __init__(self, reference: str, kind: EmbeddingKind) -> None:
        self.reference = reference
        self.kind = kind
        super().__init__()
