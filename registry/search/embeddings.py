"""The vectors that versions are found by: how they are made, and how they are written down.

    weights    a linear sketch of the update, handed in as a `Sketcher` (the arithmetic is merge's)
    text       name, tags, card and examples through an `Encoder`
    behaviour  whatever a probe of the adapter on its base gives: only stored here

Every vector is scaled to length 1 before it is stored, so products are cosines; a zero stays zero.
Not covered: searching (`registry.search.finder`).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from merge.peft_format import AdapterFolder, open_folder
from registry.errors import UnknownReference
from registry.search import queries as search_queries
from registry.search.encoder import Encoder, HashingEncoder, unit_rows
from registry.storage.blobs import BlobStore
from registry.storage.database import Database, ReadSession, WriteSession
from registry.storage.errors import StorageFailed
from registry.storage.models import AdapterVersionRow, EmbeddingRow
from registry.types import EmbeddingKind
from registry.versions import queries

# Encoders read a beginning; what a card says first says what it is about.
_CARD_CHARACTERS = 4000
_FRONT_MATTER = re.compile(r"\A---\r?\n.*?\r?\n---\r?\n", re.DOTALL)
_NAME_SEPARATORS = re.compile(r"[/._-]+")


class Sketcher(Protocol):
    """Turns an adapter's weights into a vector."""

    @property
    def name(self) -> str:
        """Return what vectors of this sketch are kept under; another name, another space."""

    def sketch(self, folder: AdapterFolder) -> NDArray[np.float32]:
        """Return the adapter's vector, (dim,) float32; products estimate those of updates.

        Raises:
            OSError: the weights cannot be read.
        """


@dataclass(frozen=True, slots=True)
class Description:
    """What is known of an adapter in words."""

    name: str
    card: str | None
    tags: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """The vectors of a version that is about to be added, made before its transaction."""

    said: Description
    text: NDArray[np.float32]
    weights: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class Embedder:
    """Makes vectors; without a sketcher there are none of weights."""

    encoder: Encoder = field(default_factory=HashingEncoder)
    sketcher: Sketcher | None = None

    def of_text(self, said: Description) -> NDArray[np.float32]:
        """Return the text vector: its description and the mean of its examples, half each."""
        card = _FRONT_MATTER.sub("", said.card or "")[:_CARD_CHARACTERS]
        name = _NAME_SEPARATORS.sub(" ", said.name)
        text = "\n".join(part for part in (name, ", ".join(said.tags), card.strip()) if part)
        rows = self.encoder.encode([text, *said.examples])
        described = rows[0]
        if said.examples:
            described = described + unit_rows(rows[1:].mean(axis=0))
        return unit_rows(described)

    def of_examples(self, examples: Sequence[str]) -> NDArray[np.float32]:
        """Return the vector that stands for a few texts (LoraRetriever, arXiv 2402.09997, §3.1)."""
        return unit_rows(self.encoder.encode(examples).mean(axis=0))

    def of_weights(self, folder: AdapterFolder) -> NDArray[np.float32] | None:
        """Return the weight vector of an adapter, or None where there is no sketcher."""
        return None if self.sketcher is None else unit_rows(self.sketcher.sketch(folder))


def describe(session: ReadSession, name: str, card: str | None) -> Description:
    """Return what is known in words of an adapter's version with this card."""
    tags = tuple(row.tag for row in queries.tags(session, [name]))
    return Description(name, card, tags, tuple(search_queries.examples(session, name)))


def write(
    session: WriteSession,
    kind: EmbeddingKind,
    encoder: str,
    vectors: dict[int, NDArray[np.float32]],
) -> None:
    """Write unit vectors by version id, in place of what was there of the kind by any encoder."""
    search_queries.forget_embeddings(session, kind, vectors)
    revision = queries.advance_revision(session)
    session.add_all(
        EmbeddingRow(
            version_id=version, kind=kind, encoder=encoder, dim=len(vector), vector=vector,
            revision=revision,
        )
        for version, vector in vectors.items()
    )  # fmt: skip
    session.flush()


class Embeddings:
    """What keeps embeddings complete. Safe to share by threads."""

    def __init__(self, database: Database, blobs: BlobStore, embedder: Embedder) -> None:
        self._database, self._blobs, self._embedder = database, blobs, embedder

    def prepare(self, name: str, digest: str, card: str | None) -> Prepared:
        """Make the vectors of stored content that will be a version; nothing is written.

        Raises:
            StorageFailed: the content cannot be read.
        """
        sketcher, weights = self._embedder.sketcher, None
        with self._database.read() as session:
            said = describe(session, name, card)
            if sketcher is not None:  # equal content has been sketched before
                weights = search_queries.vector_of_content(session, digest, sketcher.name)
        if weights is None:
            weights = self._weights(digest)
        return Prepared(said, self._embedder.of_text(said), weights)

    def add(self, session: WriteSession, version: AdapterVersionRow, made: Prepared) -> None:
        """Write the vectors of a version that this transaction has added."""
        encoder, sketcher = self._embedder.encoder, self._embedder.sketcher
        said = describe(session, version.name, made.said.card)
        # Somebody may have changed the tags since.
        text = made.text if said == made.said else self._embedder.of_text(said)
        write(session, "text", encoder.name, {version.id: text})
        if made.weights is not None and sketcher is not None:
            write(session, "weights", sketcher.name, {version.id: made.weights})

    def add_missing(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Give every version in use the embeddings that the present encoders make of it.

        For versions from before there were embeddings, and after a change of encoder. One version
        after the other, so it can be stopped and run again.

        Args:
            progress: called with how many versions are done and how many there are.

        Returns:
            How many embeddings were made.

        Raises:
            BlobMissing, StorageFailed: the files of a version are gone or cannot be read.
        """
        made, spaces = 0, self._spaces()
        with self._database.read() as session:
            todo = [
                (kind, name, row.id, row.name, row.digest, row.card)
                for kind, name in spaces
                for row in search_queries.versions_to_embed(session, kind, name)
            ]
        for kind, encoder, version, adapter, digest, card in todo:
            if kind == "weights":
                vector = self._weights(digest)
            else:
                with self._database.read() as session:
                    said = describe(session, adapter, card)
                vector = self._embedder.of_text(said)
            assert vector is not None  # a space of weights has a sketcher
            with self._database.transaction() as session:
                write(session, kind, encoder, {version: vector})
            made += 1
            if progress is not None:
                progress(made, len(todo))
        return made

    def record_behaviour(self, digest: str, probe: str, vector: NDArray[np.float32]) -> None:
        """Write down what a probe found of a version; vectors of one probe can be compared.

        Args:
            digest: of the version; several names may share it.
            probe: what tells its vectors from those of other probes: its revision and the base.
            vector: (dim,) finite.

        Raises:
            UnknownReference: no version has this digest.
            ValueError: not a finite vector.
        """
        if vector.ndim != 1 or not len(vector) or not np.isfinite(vector).all():
            raise ValueError(f"a behaviour is a finite vector, not {vector.shape}")
        with self._database.transaction() as session:
            versions = queries.with_digest(session, digest)
            if not versions:
                raise UnknownReference(digest)
            unit = unit_rows(vector)
            write(session, "behaviour", probe, {row.id: unit for row in versions})

    def _weights(self, digest: str) -> NDArray[np.float32] | None:
        try:
            return self._embedder.of_weights(open_folder(self._blobs.path(digest)))
        except OSError as error:
            raise StorageFailed(str(error)) from error

    def _spaces(self) -> list[tuple[EmbeddingKind, str]]:
        spaces: list[tuple[EmbeddingKind, str]] = [("text", self._embedder.encoder.name)]
        if self._embedder.sketcher is not None:
            spaces.append(("weights", self._embedder.sketcher.name))
        return spaces
