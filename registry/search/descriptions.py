"""Tags and examples of adapters, which people add beside the card. Search uses both.

    tag = letter or digit { letter | digit | "." | "_" | "-" | ":" }     lower case, at most 60

Not covered: permission to change them.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from registry.access import audit, policies
from registry.callers import LOCAL, Caller
from registry.search import queries as search_queries
from registry.search.embeddings import ATTEMPTS, Described, Embedder, described, write
from registry.search.errors import DescriptionBusy, TagInvalid
from registry.storage.database import Database, ReadSession, WriteSession
from registry.storage.models import AdapterExampleRow, AdapterTagRow
from registry.versions import queries
from registry.versions.resolve import unknown

MAX_TAGS = 50
MAX_EXAMPLES = 100
MAX_EXAMPLE_CHARACTERS = 10_000
MAX_EXAMPLES_CHARACTERS = 100_000  # of all examples of an adapter, which are encoded at once
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
            DescriptionBusy: others change the tags or examples all the time.
            AccessDenied: a policy is about one of the tags, and the caller may not change policies.
        """
        added, removed = set(add), set(remove)
        for tag in sorted(added):
            if _TAG.fullmatch(tag) is None:
                expected = "lower-case letters, digits and . _ - : after a letter or digit"
                raise TagInvalid(tag[:100], f"{expected}, at most 60 of them")
        before: tuple[str, ...] = ()

        def changed(current: Described) -> Described:
            nonlocal before
            before = current.tags
            after = sorted((set(before) - removed) | added)
            if len(after) > MAX_TAGS:
                raise TagInvalid(after[-1], f"at most {MAX_TAGS} tags")
            return replace(current, tags=tuple(after))

        def store(session: WriteSession, after: Described) -> None:
            policies.check_tags(session, set(before) ^ set(after.tags), caller)
            search_queries.remove_tags(session, name, set(before) - set(after.tags))
            new = sorted(set(after.tags) - set(before))
            session.add_all(AdapterTagRow(name=name, tag=tag) for tag in new)
            audit.record(session, actor, "tags.changed", name, tags=list(after.tags))

        return self._change(name, changed, store, caller).tags

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
            ValueError: there are too many examples, or too long ones, or one is empty.
            DescriptionBusy: as `change_tags`.
            UnknownReference: no adapter has this name.
        """
        if len(texts) > MAX_EXAMPLES:
            raise ValueError(f"at most {MAX_EXAMPLES} examples, not {len(texts)}")
        for text in texts:
            storable = "\0" not in text and text.encode("utf-8", "ignore").decode() == text
            if not text.strip() or not storable or len(text) > MAX_EXAMPLE_CHARACTERS:
                raise ValueError(f"an example is 1 to {MAX_EXAMPLE_CHARACTERS} characters of text")
        total = sum(map(len, texts))
        if total > MAX_EXAMPLES_CHARACTERS:
            raise ValueError(
                f"all examples have at most {MAX_EXAMPLES_CHARACTERS} characters, not {total}"
            )

        def store(session: WriteSession, after: Described) -> None:
            search_queries.remove_examples(session, name)
            session.add_all(
                AdapterExampleRow(name=name, position=position, text=text)
                for position, text in enumerate(after.examples)
            )
            audit.record(session, actor, "examples.changed", name, count=len(texts))

        def changed(current: Described) -> Described:
            return replace(current, examples=tuple(texts))

        self._change(name, changed, store, caller, always=True)

    def _change(
        self,
        name: str,
        change: Callable[[Described], Described],
        store: Callable[[WriteSession, Described], None],
        caller: Caller,
        *,
        always: bool = False,
    ) -> Described:
        """Change a description and the vectors of it in one transaction.

        The vectors are computed before the transaction takes its locks. If the description is
        another by then, everything is done again. Without `always`, no change writes nothing.

        Raises:
            UnknownReference: no adapter has this name.
            DescriptionBusy: others change the description all the time.
        """
        for _ in range(ATTEMPTS):
            with self._database.read(caller) as session:
                _check_known(session, name)
                before = described(session, name)
                rows = search_queries.live_versions_with_card(session, name)
                cards = {row.id: row.card for row in rows}
            after = change(before)
            if after == before and not always:
                return after
            vectors = self._embedder.of_cards(after, cards)
            encoder = self._embedder.encoder.name
            with self._database.transaction(caller) as session:
                queries.lock_name(session, name)
                _check_known(session, name)
                versions = search_queries.live_versions(session, name)
                if described(session, name) != before or set(versions) != cards.keys():
                    continue
                store(session, after)
                session.flush()
                write(session, "text", encoder, vectors)
                return after
        raise DescriptionBusy(name)


def _check_known(session: ReadSession, name: str) -> None:
    if queries.visible_kind_of(session, name) != "adapter":
        raise unknown(session, name)


def _tags(session: ReadSession, name: str) -> tuple[str, ...]:
    return tuple(row.tag for row in queries.tags(session, [name]))
