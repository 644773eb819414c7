"""Maps of adapters: which points they have, and where these lie."""

import numpy as np
import pytest
from numpy.typing import NDArray

from registry.callers import Caller
from registry.references import parse_reference
from registry.search import plane as planes
from registry.search.plane import principal_plane
from registry.service import Registry
from tests.registry.conftest import Register

TEAM = Caller("ci", role="read", namespace="team")


def rows(n: int, dim: int) -> NDArray[np.float32]:
    """Return rows that vary most along their first two coordinates."""
    sizes = np.array([5.0, 3.0, *(0.5,) * (dim - 2)])
    made = np.random.default_rng(0).normal(size=(n, dim)) * sizes + 1.0
    return np.asarray(made, np.float32)


@pytest.mark.parametrize(("n", "dim"), [(200, 40), (6, 300), (2, 5), (50, 2)])
def test_places_are_principal_components(n: int, dim: int) -> None:
    """Coordinates are those of a singular value decomposition of the centred rows, to scale."""
    made = rows(n, dim)
    u, sigma, _ = np.linalg.svd(made - made.mean(axis=0), full_matrices=False)
    expected = (u * sigma)[:, :2]
    places = principal_plane(made)
    for axis in range(2):
        if sigma[axis] > 1e-3:
            assert 1.0 == pytest.approx(
                abs(np.corrcoef(expected[:, axis], places[:, axis])[0, 1]), abs=1e-3
            )
    assert 1.0 == pytest.approx(np.abs(places).max())


@pytest.mark.parametrize("n", [0, 1, 3])
def test_what_does_not_differ_has_one_place(n: int) -> None:
    """No rows, one row and equal rows lie at the origin."""
    assert np.zeros((n, 2)).tolist() == principal_plane(np.ones((n, 7), np.float32)).tolist()


def test_the_same_rows_have_the_same_places() -> None:
    """A map is repeatable, and does not turn when an equal one is made."""
    assert principal_plane(rows(30, 9)).tolist() == principal_plane(rows(30, 9)).tolist()


def test_every_adapter_has_its_newest_version_on_the_map(
    registry: Registry, register: Register
) -> None:
    """A point is the newest version that is not retired, quarantined or not, with its tags."""
    register("legal", seed=1)
    register("legal", seed=2)
    register("team/soup", seed=3)
    register("gone", seed=4)
    registry.versions.quarantine(parse_reference("team/soup@1"), "odd", "ada")
    registry.versions.retire(parse_reference("gone@1"), "ada")
    registry.search.descriptions.change_tags("legal", add=["law", "eu"], remove=[], actor="ada")
    found = registry.search.mapper.plane("text")
    assert ("hashing-1", 0, registry.search.finder.revision()) == (
        found.encoder, found.left_out, found.revision,
    )  # fmt: skip
    legal, soup = found.points
    assert ("legal", 2, ("eu", "law"), "admitted") == (
        legal.name, legal.number, legal.tags, legal.status,
    )  # fmt: skip
    assert ("team/soup", 1, (), "quarantined") == (soup.name, soup.number, soup.tags, soup.status)
    assert {1.0, -1.0} == {legal.x, soup.x}


def test_a_map_has_what_its_caller_sees(registry: Registry, register: Register) -> None:
    """Names of other namespaces are neither on the map nor counted, and do not move its points."""
    for seed, name in enumerate(("legal", "team/soup", "other/secret")):
        register(name, seed=seed)
    before = registry.search.mapper.plane("text", TEAM)
    assert ["legal", "team/soup"] == [point.name for point in before.points]
    assert 0 == before.left_out
    register("other/more", seed=7)
    after = registry.search.mapper.plane("text", TEAM)
    assert before.points == after.points
    assert 4 == len(registry.search.mapper.plane("text").points)


def test_adapters_without_an_embedding_are_left_out(registry: Registry, register: Register) -> None:
    """A map shows the space of most adapters, and counts those that are not in it."""
    digests = [register(f"a{seed}", seed=seed) for seed in range(4)]
    assert (None, 4, ()) == (
        (none := registry.search.mapper.plane("behaviour")).encoder, none.left_out, none.points,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    for digest, probe in zip(digests, ("p", "q", "p"), strict=False):
        vector = rng.normal(size=5).astype(np.float32)
        registry.search.embeddings.record_behaviour(digest, probe, vector)
    found = registry.search.mapper.plane("behaviour")
    assert ("p", ["a0", "a2"], 2) == (found.encoder, [p.name for p in found.points], found.left_out)


def test_more_adapters_than_a_map_shows_are_counted(
    registry: Registry, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A map has the first names up to its limit, read in parts, and counts the others."""
    for seed in range(5):
        register(f"a{seed}", seed=seed)
    monkeypatch.setattr(planes, "MOST_POINTS", 4)
    monkeypatch.setattr(planes, "_AT_ONCE", 3)
    found = registry.search.mapper.plane("text")
    assert (4, 1) == (len(found.points), found.left_out)
