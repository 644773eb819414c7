"""Which engine answers for an adapter."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.placement import Candidate, choose, order

URLS = [f"http://10.0.0.{n}:8000" for n in range(1, 9)]
DIGESTS = [f"{n:064x}" for n in range(2000)]


def idle(urls: list[str], *, resident: frozenset[str] = frozenset()) -> list[Candidate]:
    """Return candidates without requests."""
    return [Candidate(url, 0, url in resident) for url in urls]


@given(st.permutations(URLS), st.sampled_from(DIGESTS))
def test_gateways_agree_without_talking(urls: list[str], digest: str) -> None:
    """The choice depends on the set of engines, not on the order in which a gateway lists them."""
    assert choose(digest, idle(urls)).url == choose(digest, idle(URLS)).url


def test_homes_are_spread_evenly() -> None:
    """2,000 adapters on 8 engines: no engine is home to more than 20 % above its share."""
    homes = Counter(choose(digest, idle(URLS)).url for digest in DIGESTS)
    assert max(homes.values()) < 1.2 * len(DIGESTS) / len(URLS)


@pytest.mark.parametrize("lost", URLS)
def test_an_engine_that_leaves_moves_its_own_adapters_only(lost: str) -> None:
    """Without an engine every other adapter keeps its home, and with it again all have it back."""
    rest = [url for url in URLS if url != lost]
    for digest in DIGESTS[:200]:
        home = order(digest, URLS)[0]
        assert home == lost or home == order(digest, rest)[0]


def test_an_adapter_stays_where_it_is_resident() -> None:
    """A resident copy answers, though the home is elsewhere, as long as its engine is free."""
    digest = DIGESTS[0]
    away = order(digest, URLS)[3]
    assert away == choose(digest, idle(URLS, resident=frozenset({away}))).url


def test_a_hot_adapter_spreads_and_shrinks_back() -> None:
    """Above the slack the next engine in the adapter's order helps; when all are idle the home is
    alone."""
    digest = DIGESTS[0]
    home, second = order(digest, URLS)[:2]

    def with_home(running: int, *resident: str) -> str:
        candidates = [
            Candidate(url, running if url == home else 0, url in resident) for url in URLS
        ]
        return choose(digest, candidates, slack=8).url

    assert home == with_home(8, home)
    assert second == with_home(9, home)
    assert second == with_home(20, home, second)
    assert home == with_home(0, home, second)


def test_the_least_busy_copy_answers() -> None:
    """Of the engines that hold an adapter the least busy one answers, wherever its home is."""
    home, second, third = order(DIGESTS[0], URLS)[:3]
    busy = [Candidate(home, 2, True), Candidate(second, 1, True), Candidate(third, 0, False)]
    assert second == choose(DIGESTS[0], busy).url


def test_an_engine_without_room_comes_last() -> None:
    """An adapter that would wait for a slot goes elsewhere, busier or not, if others have room."""
    home, second = order(DIGESTS[0], URLS)[:2]
    full, roomy = (
        Candidate(home, 4, resident=True, room=False),
        Candidate(second, 9, resident=False),
    )
    assert second == choose(DIGESTS[0], [full, roomy]).url
    assert home == choose(DIGESTS[0], [full]).url
