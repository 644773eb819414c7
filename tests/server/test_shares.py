"""The order in which artifacts leave a full store."""

from hypothesis import given
from hypothesis import strategies as st

from server.artifacts.shares import Shares


def order(owners: dict[str, str], sizes: dict[str, int] | None = None) -> str:
    """Return the order of removal, given each artifact's owners (a letter each), oldest first."""
    shares = Shares()
    for digest, names in owners.items():
        for name in names:
            shares.add(digest, name)
    sizes = sizes or dict.fromkeys(owners, 1)
    return "".join(shares.in_order_of_removal(list(owners), sizes))


def test_a_flood_removes_itself() -> None:
    """The owner with most loses its least recently used first, though others' are older."""
    assert "12" == order({"x": "B", "1": "A", "2": "A", "3": "A", "4": "A", "y": "B"})[:2]


def test_bytes_count_and_not_artifacts() -> None:
    """One large artifact outweighs several small ones."""
    assert "z" == order({"1": "A", "2": "A", "z": "B"}, {"1": 1, "2": 1, "z": 3})[0]


def test_what_others_use_too_goes_last() -> None:
    """Asking for another's artifact does not bring it down with one's own."""
    assert "123x" == order({"x": "AB", "1": "A", "2": "A", "3": "A"})


def test_what_nobody_asked_for_is_one_owners() -> None:
    """After a restart the store is in order of last use."""
    assert "123" == order({"1": "", "2": "", "3": ""})


@given(st.dictionaries(st.text(min_size=1), st.text("ABC", max_size=3), max_size=12))
def test_everything_is_in_the_order_once(owners: dict[str, str]) -> None:
    """Every artifact is removed at some time, and none twice."""
    shares = Shares()
    for digest, names in owners.items():
        for name in names:
            shares.add(digest, name)
    removed = list(shares.in_order_of_removal(list(owners), dict.fromkeys(owners, 1)))
    assert sorted(owners) == sorted(removed)


def test_gone_artifacts_are_forgotten() -> None:
    """An artifact that comes back has no owners from before."""
    shares = Shares()
    shares.add("1", "A")
    shares.forget_all_but([])
    shares.add("2", "B")
    assert ["1", "2"] == list(shares.in_order_of_removal(["1", "2"], {"1": 2, "2": 1}))
