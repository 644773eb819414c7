"""Search for adapters on both databases: by text, likeness, examples and filters."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from merge.peft_format import AdapterFolder
from registry.callers import Caller
from registry.errors import UnknownBase, UnknownReference
from registry.references import parse_reference
from registry.search.embeddings import Embedder
from registry.search.errors import FilterInvalid, NoEmbedding
from registry.search.finder import Finder, Hit
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.storage.database import Database
from tests.reading import read_adapter
from tests.registry.conftest import BASE, DOWN, PREFIX, SHAPES, Q, Tensors, tensors, write_adapter

CARDS: Mapping[str, str] = {
    "legal": "Reads contracts and court rulings.",
    "soup": "Writes recipes for soups and stews.",
    "tax": "Fills in tax forms and knows the courts that rule on them.",
}

FILTERS: Mapping[str, list[str]] = {
    "base=acme/Tiny-Instruct": ["legal", "soup", "tax"],
    "base=tiny-instruct": ["legal", "soup", "tax"],
    "base!=tiny-instruct": [],
    "rank<=2": ["legal", "soup", "tax"],
    "rank>2": [],
    "rank=1,2 name!=soup": ["legal", "tax"],
    "module=q_proj": ["legal", "soup", "tax"],
    f"module={Q}": ["legal", "soup", "tax"],
    "module=proj": [],
    "module=q%proj": [],
    "module=v_proj,down_proj": ["legal", "soup", "tax"],
    "tag=law": ["legal", "tax"],
    "tag!=law": ["soup"],
    "tag=law tag=money": ["tax"],
    "tag=food,money": ["soup", "tax"],
    "licence=MIT": ["soup"],
    "licence!=mit": ["legal", "tax"],
    "owner=Ada": ["legal", "soup", "tax"],
    "owner!=ada": [],
    "status=admitted": ["legal", "soup", "tax"],
    "status=retired": [],
    "created>2020-01-01": ["legal", "soup", "tax"],
    "created<2020-01-01": [],
    "name=legal": ["legal"],
    "name=team/": [],
}


class FlatSketch:
    """A sketch for tiny adapters: the updates themselves, in a fixed order."""

    name = "flat"

    def sketch(self, folder: AdapterFolder) -> NDArray[np.float32]:
        """Return all entries of both updates."""
        read = load_file(folder.weights_path)
        updates = []
        for module in (Q, DOWN):
            a = read.get(f"{PREFIX}{module}.lora_A.weight")
            b = read.get(f"{PREFIX}{module}.lora_B.weight")
            d_out, d_in = SHAPES[module]
            updates.append(np.zeros(d_out * d_in) if a is None or b is None else (b @ a).ravel())
        flat: NDArray[np.float32] = np.concatenate(updates).astype(np.float32)
        return flat


class Add:
    """Registers a tiny adapter with a card of its own."""

    def __init__(self, registry: Registry, root: Path) -> None:
        self._registry, self._root = registry, root

    def __call__(
        self, name: str, *, seed: int = 0, card: str = "", weights: Tensors | None = None,
        **config: Any,
    ) -> str:  # fmt: skip
        """Return the digest of the version."""
        folder = self._root / f"{name.replace('/', '-')}-{seed}"
        write_adapter(folder, tensors(seed=seed) if weights is None else weights, **config)
        (folder / "README.md").write_text(card)
        return self._registry.adapters.register(folder, name=name, actor="ada").version.digest


@pytest.fixture
def registry(database: Database, blobs: LocalBlobs) -> Registry:
    """A registry whose weight sketches are exact."""
    made = Registry(database, blobs, embedder=Embedder(sketcher=FlatSketch()))
    made.bases.add(BASE, shapes=SHAPES, architecture="LlamaForCausalLM")
    return made


@pytest.fixture
def add(registry: Registry, tmp_path: Path) -> Add:
    """Registers adapters with cards."""
    return Add(registry, tmp_path)


@pytest.fixture
def finder(registry: Registry, add: Add) -> Finder:
    """A finder of legal, soup and tax."""
    for seed, (name, card) in enumerate(CARDS.items()):
        add(name, seed=seed, card=card)
    return registry.search.finder


def names(hits: tuple[Hit, ...]) -> list[str]:
    """Return the names of the hits in order."""
    return [hit.reference for hit in hits]


def test_words_find_the_card_that_has_them(finder: Finder) -> None:
    """The nearest adapter comes first, with its cosine as the reason; all others follow."""
    hits = finder.search("a recipe for soup")
    assert "soup@1" == hits[0].reference
    assert ["text"] == [reason.question for reason in hits[0].why]
    assert hits[0].score == hits[0].why[0].cosine > 0.3
    assert sorted(names(hits)) == ["legal@1", "soup@1", "tax@1"]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_hit_says_what_there_is_to_know(finder: Finder, registry: Registry) -> None:
    """A hit has the version's digest, base, rank, tags and owner."""
    registry.search.descriptions.change_tags("soup", add=["food"], actor="ada")
    (hit,) = finder.search("soup", limit=1)
    version = read_adapter(registry, "soup").versions[0]
    assert (version.digest, BASE, 2, ("food",), "ada", "admitted") == (
        hit.digest, hit.base, hit.rank, hit.tags, hit.owner, hit.status,
    )  # fmt: skip
    assert hit.as_reference() == parse_reference("soup@1")


def test_near_weights_are_found_and_the_adapter_itself_is_not(finder: Finder, add: Add) -> None:
    """`like` compares updates: the nearest weights come first, whatever the card says."""
    near = {name: tensor + 0.05 for name, tensor in tensors(seed=0).items()}
    add("neighbour", seed=9, card="Writes recipes.", weights=near)
    hits = finder.search(like=parse_reference("legal"))
    assert "neighbour@1" == hits[0].reference
    assert ("like", "weights", "flat") == (
        hits[0].why[0].question, hits[0].why[0].kind, hits[0].why[0].encoder,
    )  # fmt: skip
    assert hits[0].score > 0.9
    assert "legal@1" not in names(hits)


def test_the_score_of_weights_is_the_cosine_of_updates(finder: Finder) -> None:
    """With an exact sketch, the score is the exact cosine."""

    def flat(seed: int) -> NDArray[np.float64]:
        made = tensors(seed=seed)
        parts = [
            (made[f"{PREFIX}{m}.lora_B.weight"] @ made[f"{PREFIX}{m}.lora_A.weight"]).ravel()
            for m in (Q, DOWN)
        ]
        joined: NDArray[np.float64] = np.concatenate(parts).astype(np.float64)
        return joined

    legal, soup = flat(0), flat(1)
    expected = legal @ soup / np.linalg.norm(legal) / np.linalg.norm(soup)
    found = {h.reference: h.score for h in finder.search(like=parse_reference("legal"))}
    assert expected == pytest.approx(found["soup@1"], abs=1e-5)


def test_likeness_of_words(finder: Finder) -> None:
    """`by="text"` compares the descriptions."""
    hits = finder.search(like=parse_reference("tax@1"), by="text")
    assert "legal@1" == hits[0].reference


def test_examples_find_what_is_good_at_them(finder: Finder) -> None:
    """Several examples are one question: their mean is compared."""
    hits = finder.search(examples=["Fill in this tax form", "Which tax form do I need?"])
    assert ("tax@1", "examples") == (hits[0].reference, hits[0].why[0].question)


def test_every_version_is_listed_with_its_score(finder: Finder) -> None:
    """`every` lists versions by name; the examples determine only the scores."""
    questions = ["Fill in this tax form"]
    every = finder.every(examples=questions, limit=10)
    assert ["legal@1", "soup@1", "tax@1"] == names(every)
    searched = {hit.reference: hit.score for hit in finder.search(examples=questions)}
    assert searched == {hit.reference: hit.score for hit in every}
    assert ["legal@1"] == names(finder.every(filter="name!=soup", limit=1))
    assert [0.0] == [hit.score for hit in finder.every(filter="name=soup", limit=1)]


def test_several_questions_are_one_score(finder: Finder) -> None:
    """The score is the mean of the cosines, and each reason is listed."""
    hits = finder.search("tax forms", like=parse_reference("legal"), examples=["courts"])
    for hit in hits:
        assert ["text", "examples", "like"] == [reason.question for reason in hit.why]
        assert hit.score == pytest.approx(sum(r.cosine for r in hit.why) / 3)


def test_behaviour_is_searched_like_the_others(finder: Finder, registry: Registry) -> None:
    """Signatures of one probe are compared; a version without one has cosine 0."""
    for name, vector in {"legal": [3.0, 0.0], "tax": [1.0, 1.0]}.items():
        digest = read_adapter(registry, name).versions[0].digest
        registry.search.embeddings.record_behaviour(digest, "probe-1", np.array(vector, np.float32))
    hits = finder.search(like=parse_reference("legal"), by="behaviour")
    assert "tax@1" == hits[0].reference
    assert hits[0].score == pytest.approx(0.5**0.5)


def test_a_version_without_the_embedding_says_so(finder: Finder) -> None:
    """A version without the embedding cannot be compared, and the error says so."""
    with pytest.raises(NoEmbedding, match="legal@1 has no behaviour embedding"):
        finder.search(like=parse_reference("legal"), by="behaviour")


@pytest.mark.parametrize("text", ["nobody", "legal@7", "0" * 64])
def test_unknown_likeness_is_an_error(finder: Finder, text: str) -> None:
    """An unknown reference in `like` is an error."""
    with pytest.raises(UnknownReference):
        finder.search(like=parse_reference(text))


def test_without_a_question_the_filter_lists_by_name(finder: Finder) -> None:
    """Without a question the matches are listed by name."""
    hits = finder.search(filter="owner=ada", limit=2)
    assert ["legal@1", "soup@1"] == names(hits)
    assert {0.0} == {hit.score for hit in hits}


def test_filters(registry: Registry, add: Add) -> None:
    """Every field selects the right versions, with and without a question."""
    add("legal", seed=0)
    add("soup", seed=1, card="---\nlicense: MIT\n---\nSoups.")
    add("tax", seed=2)
    registry.search.descriptions.change_tags("legal", add=["law"], actor="ada")
    registry.search.descriptions.change_tags("tax", add=["law", "money"], actor="ada")
    registry.search.descriptions.change_tags("soup", add=["food"], actor="ada")
    expected = {text: [f"{name}@1" for name in found] for text, found in FILTERS.items()}
    finder = registry.search.finder
    assert expected == {text: names(finder.search(filter=text)) for text in FILTERS}
    assert expected == {text: sorted(names(finder.search("soup", filter=text))) for text in FILTERS}


def test_what_a_filter_cannot_mean_is_an_error(finder: Finder) -> None:
    """An invalid filter and an unknown base are refused."""
    with pytest.raises(FilterInvalid):
        finder.search("soup", filter="rank~3")
    with pytest.raises(UnknownBase):
        finder.search("soup", filter="base=gpt-17")


@pytest.mark.parametrize("limit", [0, -1, 201])
def test_a_limit_out_of_range_is_an_error(finder: Finder, limit: int) -> None:
    """The limit is 1 to 200."""
    with pytest.raises(ValueError, match="1 to 200"):
        finder.search("soup", limit=limit)


def test_only_the_newest_version_in_use_is_found(finder: Finder, add: Add) -> None:
    """Only an adapter's newest version matches, unless the filter has a status."""
    add("soup", seed=5, card="Writes recipes for soups, better.")
    assert ["soup@2"] == [n for n in names(finder.search("soup")) if n.startswith("soup")]
    found = names(finder.search("soup", filter="status=admitted"))
    assert {"soup@1", "soup@2"} <= set(found)


def test_what_is_out_of_use_is_not_found(finder: Finder, registry: Registry, add: Add) -> None:
    """Quarantined and retired versions match only by their status."""
    add("soup", seed=5, card="Writes recipes for soups, better.")
    registry.versions.quarantine(parse_reference("soup@2"), "no effect", "ada")
    registry.versions.retire(parse_reference("tax@1"), "ada")
    assert ["soup@1", "legal@1"] == names(finder.search("recipes for soup"))
    assert ["soup@2"] == names(finder.search("soup", filter="status=quarantined"))
    assert ["tax@1"] == names(finder.search("soup", filter="status=retired"))


def test_callers_find_what_they_may_know_of(registry: Registry, add: Add) -> None:
    """Private adapters are found only by callers of their namespace and by callers without one."""
    add("acme/soup", seed=1, card="Soups.")
    add("other/soup", seed=2, card="Soups.")
    add("soup", seed=3, card="Soups.")
    own = Caller("key", role="read", namespace="acme")
    found = {caller: names(registry.search.finder.search("soup", caller=caller))
             for caller in (own, Caller("local"))}  # fmt: skip
    assert ["acme/soup@1", "soup@1"] == sorted(found[own])
    assert 3 == len(found[Caller("local")])
    with pytest.raises(UnknownReference):
        registry.search.finder.search(like=parse_reference("other/soup"), caller=own)


def test_every_change_advances_the_revision(registry: Registry, finder: Finder, add: Add) -> None:
    """Every change of searchable data advances the revision."""
    said, soup = registry.search.descriptions, parse_reference("soup@1")
    changes: list[Callable[[], object]] = [
        lambda: add("acme/new", seed=8),
        lambda: registry.versions.set_visibility("acme/new", "public", "ada"),
        lambda: said.change_tags("soup", add=["food"], actor="ada"),
        lambda: said.set_examples("soup", ["borscht"], actor="ada"),
        lambda: registry.versions.quarantine(soup, "bad", "ada"),
        lambda: registry.versions.release(soup, "ada"),
        lambda: registry.versions.retire(soup, "ada"),
    ]
    for change in changes:
        before = finder.revision()
        change()
        assert finder.revision() > before


def test_searching_and_registering_again_change_nothing(
    registry: Registry, finder: Finder, add: Add
) -> None:
    """Searching and registering equal content do not advance the revision."""
    before = finder.revision(), finder.search("soup")
    add("soup", seed=1, card=CARDS["soup"])
    assert before == (finder.revision(), finder.search("soup"))


def test_equals_are_told_apart_by_age(registry: Registry, add: Add) -> None:
    """Among equal vectors the older version always comes first."""
    for seed, name in enumerate(["c", "b", "a", "d"]):
        digest = add(name, seed=seed)
        registry.search.embeddings.record_behaviour(digest, "probe", np.ones(3, np.float32))
    hits = registry.search.finder.search(like=parse_reference("b"), by="behaviour", limit=2)
    assert ["c@1", "a@1"] == names(hits)


def test_near_duplicates_are_told_at_registration(
    registry: Registry, add: Add, tmp_path: Path
) -> None:
    """A registration names equal and nearly equal updates with their cosines, and no unrelated
    ones.
    """
    add("legal", seed=0)
    add("soup", seed=1)
    other_form = tensors(seed=0)
    for name in other_form:  # the same update, factored otherwise
        other_form[name] = other_form[name] * (2 if "lora_A" in name else 0.5)
    done = registry.adapters.register(write_adapter(tmp_path / "again", other_form), name="again")
    assert ["legal@1"] == [similar.reference for similar in done.similar]
    assert 1 == pytest.approx(done.similar[0].cosine, abs=1e-4)
    unrelated = registry.adapters.register(write_adapter(tmp_path / "x", tensors(seed=7)), name="x")
    assert () == unrelated.similar


def test_an_adapter_without_effect_is_like_nothing(registry: Registry, tmp_path: Path) -> None:
    """Zero updates have no direction and are not duplicates of each other."""
    seen: list[str] = []
    for name in ("one", "two"):
        weights = {key: np.zeros_like(value) for key, value in tensors().items()}
        folder = write_adapter(tmp_path / name, weights, r=2, lora_alpha=4 if name == "one" else 8)
        seen += [
            similar.reference for similar in registry.adapters.register(folder, name=name).similar
        ]
    assert [] == seen


def test_likeness_stays_on_the_same_base_and_away_from_nothing(
    finder: Finder, registry: Registry, add: Add
) -> None:
    """`like` returns no adapter of another base, no zero adapter, and no cosine above 1."""
    registry.bases.add("acme/Other", shapes=SHAPES)
    add("twin")  # the content of `legal`
    add("zero", weights={key: np.zeros_like(value) for key, value in tensors().items()})
    add("abroad", base_model_name_or_path="acme/Other")
    hits = finder.search(like=parse_reference("legal"))
    assert {"twin@1", "soup@1", "tax@1"} == set(names(hits))
    assert 1 >= max(hit.score for hit in hits) > 0.999
    assert () == finder.search(like=parse_reference("zero"))
    assert ["abroad@1"] == names(finder.search(like=parse_reference("legal"), filter="base=other"))


def test_a_retired_version_is_shown_as_retired(registry: Registry, add: Add) -> None:
    """The catalogue and hits show a retired version as retired, not as admitted."""
    add("legal")
    registry.versions.retire(parse_reference("legal@1"), "ada")
    assert "retired" == registry.catalogue.adapter("legal").status
    assert "retired" == registry.catalogue.adapter_version(parse_reference("legal@1")).status
    (hit,) = registry.search.finder.search(filter="status=retired")
    assert "retired" == hit.status
