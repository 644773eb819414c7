"""Usage of keys and the registry's secrets: what several gateways add, read and make at once."""

from concurrent.futures import ThreadPoolExecutor

from registry.access.usage import Counts, Slot
from registry.callers import Caller
from registry.service import Registry

_DAY = 24 * 60
NOON = 1_796_040_000 // 60  # in minutes since 1970


def test_gateways_add_to_the_same_rows(registry: Registry) -> None:
    """Counts that several gateways write at the same time are all there, by day and by minute."""
    usage = registry.access.usage
    old, slots = Slot("a", None, NOON - 6), [Slot(key, None, NOON) for key in "abcd"]
    usage.add({old: Counts(requests=1)})

    def write(order: int) -> None:
        for _ in range(5):
            usage.add(dict.fromkeys(slots[::order], Counts(1, 2, 3, 4, 0.5)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, [1, -1, 1, -1]))
    total = Counts(20, 40, 60, 80, 10.0)
    assert {(key, NOON): total for key in "abcd"} == usage.minutes(since=0)
    assert {} == usage.minutes(since=NOON + 1)
    days = [(row.key, row.requests, row.build_seconds) for row in usage.page().items]
    assert [("a", 21, 10.0), ("b", 20, 10.0), ("c", 20, 10.0), ("d", 20, 10.0)] == days


def test_usage_is_paged_by_day_and_key(registry: Registry) -> None:
    """Pages go from the newest day to the oldest, keys in order, and miss and repeat no row."""
    usage = registry.access.usage
    for name, ago in (("b", 0), ("a", 0), ("A", 1), ("b", 1), ("c", 2)):
        usage.add({Slot(name, None, NOON - ago * _DAY): Counts(requests=1)})
    rows, cursor = [], None
    while True:
        page = usage.page(limit=2, cursor=cursor)
        rows += [(row.day, row.key) for row in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    days = ["2026-11-30", "2026-11-29", "2026-11-28"]
    assert [(days[0], "a"), (days[0], "b"), (days[1], "A"), (days[1], "b"), (days[2], "c")] == rows


def test_a_key_without_a_role_for_others_sees_its_own_usage(registry: Registry) -> None:
    """An admin of a namespace sees its keys, any other caller itself."""
    usage = registry.access.usage
    for name, namespace in (("a", "team"), ("b", "team"), ("c", "other")):
        usage.add({Slot(name, namespace, NOON): Counts(requests=1)})
    callers = (Caller("a", "chat", "team"), Caller("boss", "admin", "team"))
    seen = [[row.key for row in usage.page(caller=caller).items] for caller in callers]
    assert [["a"], ["a", "b"]] == seen


def test_gateways_share_one_secret(registry: Registry) -> None:
    """Whoever asks for a secret first, and at the same time as others, everybody gets the same."""
    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(registry.access.secret, 4 * ["salt"]))
    assert 1 == len(made)
    assert made != {registry.access.secret("other")}
