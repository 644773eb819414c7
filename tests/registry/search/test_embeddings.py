"""Embeddings of versions, and the computation of missing ones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from registry.errors import UnknownReference
from registry.references import parse_reference
from registry.search import queries as search_queries
from registry.search.embeddings import Described, Embedder
from registry.search.encoder import HashingEncoder, unit_rows
from registry.search.queries import Space
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.storage.database import Database
from registry.storage.errors import BlobMissing
from tests.reading import read_adapter
from tests.registry.conftest import BASE, SHAPES, tensors, write_adapter
from tests.registry.search.test_finder import FlatSketch


class Shout(HashingEncoder):
    """Another encoder, under another name."""

    name = "shout-1"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the hashing encoder's rows of the doubled texts."""
        return super().encode([f"{text} shout" for text in texts])


@pytest.fixture
def plain(database: Database, blobs: LocalBlobs) -> Registry:
    """A registry without sketches."""
    made = Registry(database, blobs)
    made.bases.add(BASE, shapes=SHAPES)
    return made


@pytest.fixture
def filled(plain: Registry, tmp_path: Path) -> Registry:
    """The same registry with two adapters."""
    for seed, name in enumerate(["one", "two"]):
        plain.adapters.register(write_adapter(tmp_path / name, tensors(seed=seed)), name=name)
    return plain


def stored(database: Database, kind: str, encoder: str, dim: int) -> dict[int, NDArray[np.float32]]:
    """Return the stored vectors of a space."""
    with database.read() as session:
        space = Space(kind, encoder, dim)  # type: ignore[arg-type]  # a test's shorthand
        return dict(search_queries.embeddings_since(session, space, -1))


def test_vectors_come_back_as_they_were_stored(filled: Registry, database: Database) -> None:
    """float32 in, the same float32 out, of length one, on both databases."""
    vectors = stored(database, "text", "hashing-1", 1024)
    assert 2 == len(vectors)
    expected = Embedder().of_text(Described("one"), None)
    np.testing.assert_array_equal(expected, vectors[min(vectors)])


def test_missing_embeddings_are_made_once(
    filled: Registry, database: Database, blobs: LocalBlobs
) -> None:
    """After a change of encoders, only the missing embeddings are computed."""
    filled.versions.retire(parse_reference("two@1"), "ada")
    registry = Registry(database, blobs, embedder=Embedder(Shout(), FlatSketch()))
    seen: list[tuple[int, int]] = []
    made = registry.search.embeddings.add_missing(lambda done, total: seen.append((done, total)))
    assert (2, [(1, 2), (2, 2)]) == (made, seen)
    assert 0 == registry.search.embeddings.add_missing()
    assert 1 == len(stored(database, "weights", "flat", 16 * 16 + 16 * 24))
    assert "one@1" == registry.search.finder.search("one")[0].reference


def test_files_that_are_gone_are_an_error(
    filled: Registry, database: Database, blobs: LocalBlobs
) -> None:
    """Missing files are an error, and earlier embeddings remain."""
    blobs.delete(read_adapter(filled, "two").versions[0].digest)
    registry = Registry(database, blobs, embedder=Embedder(sketcher=FlatSketch()))
    with pytest.raises(BlobMissing):
        registry.search.embeddings.add_missing()
    assert 1 == len(stored(database, "weights", "flat", 16 * 16 + 16 * 24))


def test_equal_content_is_sketched_once(
    database: Database, blobs: LocalBlobs, tmp_path: Path
) -> None:
    """Equal content under a second name reuses the vector."""
    calls: list[int] = []

    class Counting(FlatSketch):
        def sketch(self, folder: object) -> NDArray[np.float32]:
            calls.append(1)
            return super().sketch(folder)  # type: ignore[arg-type]  # as it came

    registry = Registry(database, blobs, embedder=Embedder(sketcher=Counting()))
    registry.bases.add(BASE, shapes=SHAPES)
    folder = write_adapter(tmp_path / "a")
    for name in ("one", "two", "two"):
        registry.adapters.register(folder, name=name)
    assert [1] == calls
    assert 2 == len(stored(database, "weights", "flat", 16 * 16 + 16 * 24))


@pytest.mark.parametrize("vector", [[], [[1.0]], [np.nan], [np.inf, 0.0]])
def test_a_behaviour_is_a_finite_vector(filled: Registry, vector: list[float]) -> None:
    """The vector of a failed probe is refused."""
    digest = read_adapter(filled, "one").versions[0].digest
    with pytest.raises(ValueError, match="finite vector"):
        filled.search.embeddings.record_behaviour(digest, "probe", np.array(vector, np.float32))


def test_a_behaviour_belongs_to_a_version(filled: Registry) -> None:
    """An unknown digest is an error; a second measurement replaces the first."""
    with pytest.raises(UnknownReference):
        filled.search.embeddings.record_behaviour("0" * 64, "probe", np.ones(2, np.float32))
    for vector in ([1.0, 0.0], [0.0, 1.0]):
        for name in ("one", "two"):
            digest = read_adapter(filled, name).versions[0].digest
            probe = f"probe {'b' * 200}"  # it may hold the name of a base
            filled.search.embeddings.record_behaviour(digest, probe, np.array(vector, np.float32))
    (hit,) = filled.search.finder.search(like=parse_reference("one"), by="behaviour")
    assert 1 == pytest.approx(hit.score)


def test_examples_weigh_as_much_as_the_description() -> None:
    """The text vector lies half-way between the description and the mean example."""
    embedder = Embedder()
    said = embedder.of_text(Described("name", ("tag",)), "card")
    shown = embedder.of_examples(["first", "second"])
    both = embedder.of_text(Described("name", ("tag",), ("first", "second")), "card")
    np.testing.assert_allclose(unit_rows(said + shown), both, atol=1e-6)


def test_front_matter_and_separators_are_not_text() -> None:
    """Front matter and punctuation in names do not affect the vector."""
    plain = Embedder().of_text(Described("acme legal v2"), "About law.")
    marked = Embedder().of_text(
        Described("acme/legal-v2"), "---\nlicense: mit\ntags: [peft]\n---\nAbout law."
    )
    np.testing.assert_array_equal(plain, marked)


def test_tags_that_change_during_a_registration_count(
    plain: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vector uses the tags at the time the version is added."""
    plain.adapters.register(write_adapter(tmp_path / "a"), name="one")
    prepare = plain.search.embeddings.prepare

    def slow(name: str, digest: str, card: str | None) -> object:
        made = prepare(name, digest, card)
        plain.search.descriptions.change_tags("one", add=["law"], actor="ada")
        return made

    monkeypatch.setattr(plain.search.embeddings, "prepare", slow)
    plain.adapters.register(write_adapter(tmp_path / "b", tensors(seed=1)), name="one")
    hit = plain.search.finder.search("law")[0]
    assert ("one@2", True) == (hit.reference, hit.score > 0.3)
