"""Embeddings of versions: how they are computed and stored.

    weights    a linear sketch of the update, from a `Sketcher` (implemented in merge)
    text       name, tags, card and examples, from an `Encoder`
    behaviour  the signature that a probe measures on the base; only stored here

Every vector is scaled to length 1 before it is stored, so dot products are cosines; zero vectors
stay zero.
Not covered: searching (`registry.search.finder`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from merge.peft_format import AdapterFolder, open_folder
from registry.errors import UnknownReference
from registry.search import queries as search_queries
from registry.search.encoder import Encoder, HashingEncoder, unit_rows
from registry.search.errors import DescriptionBusy
from registry.storage.blobs import BlobStore
from registry.storage.database import Database, ReadSession, WriteSession
from registry.storage.errors import StorageFailed
from registry.storage.models import AdapterVersionRow, EmbeddingRow
from registry.types import EmbeddingKind
from registry.versions import queries

# Vectors are computed before a transaction; when the texts change meanwhile, they are again.
ATTEMPTS = 5
# Encoders truncate long texts, and the beginning of a card tells its subject.
_CARD_CHARACTERS = 4000
_FRONT_MATTER = re.compile(r"\A---\r?\n.*?\r?\n---\r?\n", re.DOTALL)
_NAME_SEPARATORS = re.compile(r"[/._-]+")


class Sketcher(Protocol):
    """Turns an adapter's weights into a vector."""

    @property
    def name(self) -> str:
        """Return the name of the sketch's space; vectors under different names are not compared."""

    def sketch(self, folder: AdapterFolder) -> NDArray[np.float32]:
        """Return the adapter's vector, (dim,) float32; dot products estimate those of the updates.

        Raises:
            OSError: the weights cannot be read.
        """


@dataclass(frozen=True, slots=True)
class Described:
    """The texts that describe an adapter; each of its versions has a card of its own, too."""

    name: str
    tags: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """The vectors of a new version, computed before the transaction that adds it."""

    description: Described
    text: NDArray[np.float32]
    weights: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class Embedder:
    """Computes vectors; without a sketcher it computes none of weights."""

    encoder: Encoder = field(default_factory=HashingEncoder)
    sketcher: Sketcher | None = None

    def of_text(self, description: Described, card: str | None) -> NDArray[np.float32]:
        """Return the text vector: equal parts of the description and the mean of the examples."""
        return self.of_cards(description, {0: card})[0]

    def of_cards(
        self, description: Described, cards: Mapping[int, str | None]
    ) -> dict[int, NDArray[np.float32]]:
        """Return the text vectors of versions by id; each text is encoded once."""
        texts = {version: _text(description, card) for version, card in cards.items()}
        distinct = list(dict.fromkeys(texts.values()))
        rows = self.encoder.encode([*distinct, *description.examples])
        vectors = dict(zip(distinct, rows, strict=False))
        if description.examples:
            examples = unit_rows(rows[len(distinct) :].mean(axis=0))
            vectors = {text: vector + examples for text, vector in vectors.items()}
        return {version: unit_rows(vectors[text]) for version, text in texts.items()}

    def of_examples(self, examples: Sequence[str]) -> NDArray[np.float32]:
        """Return the mean vector of several texts (LoraRetriever, arXiv 2402.09997, §3.1)."""
        return unit_rows(self.encoder.encode(examples).mean(axis=0))

    def of_weights(self, folder: AdapterFolder) -> NDArray[np.float32] | None:
        """Return the weight vector of an adapter, or None without a sketcher."""
        return None if self.sketcher is None else unit_rows(self.sketcher.sketch(folder))


def _cosine(one: NDArray[np.float32] | None, other: NDArray[np.float32] | None) -> float | None:
    """Return the product of two unit vectors, which rounding may make slightly longer."""
    if one is None or other is None:
        return None
    return min(1.0, max(-1.0, float(one.astype(np.float64) @ other)))


def _text(description: Described, card: str | None) -> str:
    card = _FRONT_MATTER.sub("", card or "")[:_CARD_CHARACTERS]
    name = _NAME_SEPARATORS.sub(" ", description.name)
    return "\n".join(part for part in (name, ", ".join(description.tags), card.strip()) if part)


def described(session: ReadSession, name: str) -> Described:
    """Return the description of an adapter."""
    tags = tuple(row.tag for row in queries.tags(session, [name]))
    return Described(name, tags, tuple(search_queries.examples(session, name)))


def write(
    session: WriteSession,
    kind: EmbeddingKind,
    encoder: str,
    vectors: dict[int, NDArray[np.float32]],
) -> None:
    """Store unit vectors by version id; they replace those of the same kind by any encoder."""
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
    """Computes and stores the embeddings of versions. Safe to share by threads."""

    def __init__(self, database: Database, blobs: BlobStore, embedder: Embedder) -> None:
        self._database, self._blobs, self._embedder = database, blobs, embedder

    def prepare(self, name: str, digest: str, card: str | None) -> Prepared:
        """Compute the vectors of stored content that becomes a version; nothing is stored.

        Raises:
            StorageFailed: the content cannot be read.
        """
        sketcher, weights = self._embedder.sketcher, None
        with self._database.read() as session:
            description = described(session, name)
            if sketcher is not None:  # reuse the sketch of equal content
                weights = search_queries.vector_of_content(session, digest, sketcher.name)
        if weights is None:
            weights = self._weights(digest)
        return Prepared(description, self._embedder.of_text(description, card), weights)

    def add(self, session: WriteSession, version: AdapterVersionRow, prepared: Prepared) -> None:
        """Store the vectors of a version that this transaction has added.

        Raises:
            DescriptionBusy: the tags or examples have changed since `prepare`.
        """
        encoder, sketcher = self._embedder.encoder, self._embedder.sketcher
        if described(session, version.name) != prepared.description:
            raise DescriptionBusy(version.name)
        write(session, "text", encoder.name, {version.id: prepared.text})
        if prepared.weights is not None and sketcher is not None:
            write(session, "weights", sketcher.name, {version.id: prepared.weights})

    def add_missing(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Compute the embeddings that versions in use lack for the current encoders.

        Versions older than the embeddings lack them, and all do after a change of encoder. Each
        version is committed on its own, so the call can be interrupted and repeated.

        Args:
            progress: called with the number of finished embeddings and the total.

        Returns:
            The number of embeddings computed.

        Raises:
            BlobMissing, StorageFailed: the files of a version are missing or cannot be read.
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
                    description = described(session, adapter)
                vector = self._embedder.of_text(description, card)
            assert vector is not None  # a space of weights has a sketcher
            with self._database.transaction() as session:
                write(session, kind, encoder, {version: vector})
            made += 1
            if progress is not None:
                progress(made, len(todo))
        return made

    def cosines(self, digests: Sequence[str]) -> tuple[tuple[float | None, ...], ...]:
        """Return the cosines between the updates of contents, estimated from their sketches.

        They are None for a content without a sketch. The error has a standard deviation of 0.02.
        """
        sketcher = self._embedder.sketcher
        if sketcher is None:
            return tuple((None,) * len(digests) for _ in digests)
        with self._database.read() as session:
            vectors = [
                search_queries.vector_of_content(session, digest, sketcher.name)
                for digest in digests
            ]
        return tuple(tuple(_cosine(one, other) for other in vectors) for one in vectors)

    def record_behaviour(self, digest: str, probe: str, vector: NDArray[np.float32]) -> None:
        """Store the signature that a probe measured; vectors of one probe can be compared.

        Args:
            digest: the digest of the version; several names may share it.
            probe: the name of the space: the probe's revision and the base.
            vector: the signature, (dim,), finite.

        Raises:
            UnknownReference: no version has this digest.
            ValueError: the vector is not finite or not one-dimensional.
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
