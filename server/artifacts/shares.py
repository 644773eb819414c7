"""Whose artifacts fill the store, and which of them goes first when it is full.

An artifact belongs to those who asked for it since the gateway started, in equal parts; one that
nobody asked for belongs to nobody, who counts as an owner too. The next to go is of the owner that
has most: the least recently used of those with the fewest other owners. So a flood of one caller's
compositions removes that caller's. Kept in memory. Not covered: the removal (`evict.py`).
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

_NOBODY = ""
# Owners remembered of one artifact. A public one is asked for by everybody, which says no more.
_MOST_OWNERS = 64


class Shares:
    """The owners of artifacts."""

    def __init__(self) -> None:
        self._owners: dict[str, set[str]] = {}

    def add(self, digest: str, owner: str) -> None:
        """Note that `owner` asked for an artifact."""
        owners = self._owners.setdefault(digest, set())
        if len(owners) < _MOST_OWNERS:
            owners.add(owner)

    def forget_all_but(self, digests: Collection[str]) -> None:
        """Forget artifacts that are not in the store any more."""
        self._owners = {d: owners for d, owners in self._owners.items() if d in digests}

    def in_order_of_removal(
        self, oldest_first: Sequence[str], sizes: Mapping[str, int]
    ) -> Iterator[str]:
        """Yield all artifacts, the next to go first, as if each were removed when it is yielded.

        Args:
            oldest_first: the digests in the store by their last use.
            sizes: their bytes.
        """
        owners = {digest: self._owners.get(digest) or {_NOBODY} for digest in oldest_first}
        used: defaultdict[str, float] = defaultdict(float)
        lines: defaultdict[str, list[str]] = defaultdict(list)
        for digest in sorted(oldest_first, key=lambda digest: len(owners[digest])):  # stable
            for owner in owners[digest]:
                used[owner] += sizes[digest] / len(owners[digest])
                lines[owner].append(digest)
        gone: set[str] = set()
        ends = {owner: iter(line) for owner, line in lines.items()}
        while ends:
            largest = max(ends, key=lambda owner: (used[owner], owner))
            digest = next((one for one in ends[largest] if one not in gone), "")
            if not digest:
                del ends[largest]
                continue
            gone.add(digest)
            for owner in owners[digest]:
                used[owner] -= sizes[digest] / len(owners[digest])
            yield digest
