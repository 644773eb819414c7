"""Tags and examples: their limits, and their effect on search."""

import threading
from typing import Any

import pytest

from registry.errors import UnknownReference
from registry.search.descriptions import MAX_EXAMPLES_CHARACTERS
from registry.search.embeddings import Embedder
from registry.search.encoder import HashingEncoder
from registry.search.errors import DescriptionBusy, TagInvalid
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.storage.database import Database
from tests import transactions
from tests.registry.conftest import Register


def test_tags_are_a_sorted_set(registry: Registry, register: Register) -> None:
    """Adding a tag twice and removing an absent one change nothing."""
    register("legal")
    after = registry.search.descriptions.change_tags(
        "legal", add=["law", "eu:gdpr", "law"], actor="ada"
    )
    assert ("eu:gdpr", "law") == after
    after = registry.search.descriptions.change_tags(
        "legal", add=["a.b-c_1"], remove=["law", "none"], actor="ada"
    )
    assert ("a.b-c_1", "eu:gdpr") == after == registry.search.descriptions.tags("legal")


@pytest.mark.parametrize("tag", ["", "Law", "two words", "-x", "x" * 61, "tag,tag", "law\n", "ö"])
def test_a_bad_tag_changes_nothing(registry: Registry, register: Register, tag: str) -> None:
    """All tags are checked before one is added."""
    register("legal")
    with pytest.raises(TagInvalid, match="lower-case"):
        registry.search.descriptions.change_tags("legal", add=["fine", tag], actor="ada")
    assert () == registry.search.descriptions.tags("legal")


def test_an_adapter_has_so_many_tags(registry: Registry, register: Register) -> None:
    """The fifty-first tag is refused with the whole change."""
    register("legal")
    registry.search.descriptions.change_tags(
        "legal", add=[f"t{number}" for number in range(50)], actor="ada"
    )
    with pytest.raises(TagInvalid, match="at most 50"):
        registry.search.descriptions.change_tags("legal", add=["more"], actor="ada")
    assert 50 == len(registry.search.descriptions.tags("legal"))


def test_examples_keep_their_order(registry: Registry, register: Register) -> None:
    """Setting examples replaces the earlier ones."""
    register("legal")
    registry.search.descriptions.set_examples("legal", ["b", "a"], actor="ada")
    assert ("b", "a") == registry.search.descriptions.examples("legal")
    registry.search.descriptions.set_examples("legal", ["c"], actor="ada")
    assert ("c",) == registry.search.descriptions.examples("legal")


@pytest.mark.parametrize("texts", [["  "], ["a\0b"], ["\ud800"], ["x" * 10_001], ["x"] * 101])
def test_examples_that_are_none(registry: Registry, register: Register, texts: list[str]) -> None:
    """Empty, too long, too many or with NUL, examples are refused and nothing changes."""
    register("legal")
    with pytest.raises(ValueError, match="example"):
        registry.search.descriptions.set_examples("legal", texts, actor="ada")
    assert () == registry.search.descriptions.examples("legal")


def test_nobody_has_tags_or_examples(registry: Registry) -> None:
    """An unknown adapter is an error in every method."""
    said = registry.search.descriptions
    for ask in (
        lambda: said.tags("nobody"),
        lambda: said.examples("nobody"),
        lambda: said.change_tags("nobody", add=["law"], actor="ada"),
        lambda: said.set_examples("nobody", ["a"], actor="ada"),
    ):
        with pytest.raises(UnknownReference):
            ask()


def test_what_is_said_is_what_is_found(registry: Registry, register: Register) -> None:
    """Tags and examples affect search as soon as they are added or removed."""
    for seed, name in enumerate(["one", "two", "three"]):
        register(name, seed=seed)

    def best() -> str:
        return registry.search.finder.search("contract law", limit=1)[0].reference

    registry.search.descriptions.change_tags("two", add=["law"], actor="ada")
    assert "two@1" == best()
    registry.search.descriptions.set_examples(
        "three", ["Is this contract valid under the law?"], actor="ada"
    )
    registry.search.descriptions.change_tags("two", remove=["law"], actor="ada")
    assert "three@1" == best()


def test_a_new_version_is_found_by_the_tags_that_are_there(
    registry: Registry, register: Register
) -> None:
    """Tags belong to the adapter and apply to later versions."""
    register("one", seed=0)
    register("two", seed=1)
    registry.search.descriptions.change_tags("one", add=["law"], actor="ada")
    register("one", seed=2)
    assert "one@2" == registry.search.finder.search("law", limit=1)[0].reference


def test_long_examples_hold_no_lock(registry: Registry, register: Register) -> None:
    """The largest set of examples, on six versions, is encoded once and outside of the transaction,
    which takes less than 50 ms of CPU."""
    for seed in range(6):
        register("legal", seed=seed)
    transactions.longest_cpu_seconds[0] = 0.0
    texts = ["word " * (MAX_EXAMPLES_CHARACTERS // 500)] * 100
    registry.search.descriptions.set_examples("legal", texts, actor="ada")
    assert 0 < transactions.longest_cpu_seconds[0] < 0.05


def test_all_examples_together_have_a_limit(registry: Registry, register: Register) -> None:
    """Eleven examples of the greatest length are refused, and nothing changes."""
    register("legal")
    with pytest.raises(ValueError, match="100000 characters, not 110000"):
        registry.search.descriptions.set_examples("legal", ["x" * 10_000] * 11, actor="ada")
    assert () == registry.search.descriptions.examples("legal")


class Interrupted(HashingEncoder):
    """An encoder during which somebody else changes a tag, so many times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.registry: Registry | None = None

    def encode(self, texts: Any) -> Any:
        """Change a tag first."""
        if self.times and self.registry is not None:
            self.times, registry = self.times - 1, self.registry
            thread = threading.Thread(
                target=registry.search.descriptions.change_tags,
                args=("legal",),
                kwargs={"add": [f"other-{self.times}"], "actor": "bob"},
            )
            self.registry = None
            thread.start()
            thread.join()
            self.registry = registry
        return super().encode(texts)


@pytest.mark.parametrize("times", [1, 5])
def test_a_change_meanwhile_is_not_lost(
    database: Database, blobs: LocalBlobs, registry: Registry, register: Register, times: int
) -> None:
    """A change between encoding and writing is seen, and everything encoded again; a description
    that never rests is an error, and nothing of the change is written."""
    register("legal")
    encoder = Interrupted(times)
    slow = Registry(database, blobs, embedder=Embedder(encoder))
    encoder.registry = registry
    descriptions = slow.search.descriptions
    if times == 1:
        assert ("mine", "other-0") == descriptions.change_tags("legal", add=["mine"], actor="ada")
    else:
        with pytest.raises(DescriptionBusy, match="legal"):
            descriptions.change_tags("legal", add=["mine"], actor="ada")
    assert ("mine" in descriptions.tags("legal")) == (times == 1)
