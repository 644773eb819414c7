"""Tags and examples of adapters, which people add beside the card. Search uses both.

    tag = letter or digit { letter | digit | "." | "_" | "-" | ":" }     lower case, at most 60

Not covered: permission to change them.
"""

import re
from collections.abc import Iterable, Sequence

from registry.access import audit
from registry.callers import LOCAL, Caller
from registry.search import queries as search_queries
from registry.search.embeddings import Embedder, describe, write
from registry.search.errors import TagInvalid
from registry.storage.database import Database, ReadSession, WriteSession
from registry.storage.models import AdapterExampleRow, AdapterTagRow
from registry.versions import queries
from registry.versions.resolve import unknown

MAX_TAGS = 50
MAX_EXAMPLES = 100
MAX_EXAMPLE_CHARACTERS = 10_000
_TAG = re.compile(r"[a-z0-9][a-z0-9._:-]{0,59}")


class Descriptions:
    """Tags and examples of adapters. Safe to share by threads."""

    def __init__(self, database: Database, embedder: Embedder) -> None:
        self._database, self._embedder = database, embedder

    def tags(self, name: str, *, caller: Caller = LOCAL) -> tuple[str, ...]:
        """Return an adapter's tags, sorted.

        Raises:
            UnknownReference: no adapter has this name.
        """
        with self._database.read(caller) as session:
            _check_known(session, name)
            return _tags(session, name)

    def change_tags(
        self,
        name: str,
        *,
        add: Iterable[str] = (),
        remove: Iterable[str] = (),
        actor: str,
        caller: Caller = LOCAL,
    ) -> tuple[str, ...]:
        """Add and remove tags of an adapter, and return its resulting tags, sorted.

        Raises:
            TagInvalid: a tag violates the grammar above, or there are too many.
            UnknownReference: no adapter has this name.
        """
        added, removed = set(add), set(remove)
        for tag in sorted(added):
            if _TAG.fullmatch(tag) is None:
                expected = "lower-case letters, digits and . _ - : after a letter or digit"
                raise TagInvalid(tag[:100], f"{expected}, at most 60 of them")
        self._embedder.encoder.encode([name])  # load a model before the transaction takes locks
        with self._database.transaction(caller) as session:
            self._lock(session, name)
            before = set(_tags(session, name))
            if before == (before - removed) | added:
                return tuple(sorted(before))
            search_queries.remove_tags(session, name, removed)
            new = sorted(added - (before - removed))
            session.add_all(AdapterTagRow(name=name, tag=tag) for tag in new)
            session.flush()
            after = _tags(session, name)
            if len(after) > MAX_TAGS:
                raise TagInvalid(after[-1], f"at most {MAX_TAGS} tags")
            self._embed(session, name)
            audit.record(session, actor, "tags.changed", name, tags=list(after))
            return after

    def examples(self, name: str, *, caller: Caller = LOCAL) -> tuple[str, ...]:
        """Return an adapter's examples in their order.

        Raises:
            UnknownReference: no adapter has this name.
        """
        with self._database.read(caller) as session:
            _check_known(session, name)
            return tuple(search_queries.examples(session, name))

    def set_examples(
        self, name: str, texts: Sequence[str], *, actor: str, caller: Caller = LOCAL
    ) -> None:
        """Replace an adapter's examples: texts such as its users send.

        Raises:
            ValueError: there are too many examples, or one is empty or too long.
            UnknownReference: no adapter has this name.
        """
        if len(texts) > MAX_EXAMPLES:
            raise ValueError(f"at most {MAX_EXAMPLES} examples, not {len(texts)}")
        for text in texts:
            storable = "\0" not in text and text.encode("utf-8", "ignore").decode() == text
            if not text.strip() or not storable or len(text) > MAX_EXAMPLE_CHARACTERS:
                raise ValueError(f"an example is 1 to {MAX_EXAMPLE_CHARACTERS} characters of text")
        self._embedder.encoder.encode([name])  # load a model before the transaction takes locks
        with self._database.transaction(caller) as session:
            self._lock(session, name)
            search_queries.remove_examples(session, name)
            session.add_all(
                AdapterExampleRow(name=name, position=position, text=text)
                for position, text in enumerate(texts)
            )
            session.flush()
            self._embed(session, name)
            audit.record(session, actor, "examples.changed", name, count=len(texts))

    @staticmethod
    def _lock(session: WriteSession, name: str) -> None:
        queries.lock_name(session, name)
        _check_known(session, name)

    def _embed(self, session: WriteSession, name: str) -> None:
        versions = search_queries.live_versions_with_card(session, name)
        vectors = {
            row.id: self._embedder.of_text(describe(session, name, row.card)) for row in versions
        }
        write(session, "text", self._embedder.encoder.name, vectors)


def _check_known(session: ReadSession, name: str) -> None:
    if queries.visible_kind_of(session, name) != "adapter":
        raise unknown(session, name)


def _tags(session: ReadSession, name: str) -> tuple[str, ...]:
    return tuple(row.tag for row in queries.tags(session, [name]))
