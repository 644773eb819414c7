"""Arbitrary text as a filter, a reference or a model either parses or raises weft's own error."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.errors import ReferenceInvalid, RegistryError
from registry.references import parse_reference
from registry.search.embeddings import Embedder
from registry.search.errors import FilterInvalid
from registry.search.filters import FIELDS, parse_filter
from registry.search.finder import Finder
from registry.storage.database import Database
from server.compose.expression import ExpressionInvalid, parse_model
from tests.attacks.strings import NO_DIGESTS
from tests.postgresql import serve

FEW, MANY = 300, 5_000
SEARCHED_FEW, SEARCHED_MANY = 150, 1_000
Fuzz = Callable[[str], None]
E = TypeVar("E", bound=Exception)

_SIGNS = "= != < <= > >= , \" ' ( ) ; * + - @ / . # { } % _ \\ : e".split(" ")
_FRAGMENTS = (
    *FIELDS, *_SIGNS, " ", "\t", "\n",
    "a", "legal", "prod", "lego", "cat", "auto", "k", "rank", "0", "1", "16", "0.5", "1e309", "-1",
    "9" * 30, "nan", "inf", "2026-01-01", "2026-13-01", "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59", "admitted", "q_proj", "a" * 64, "acme/Tiny-Instruct", "DROP TABLE",
    "--", "é", "\N{CYRILLIC SMALL LETTER A}", "\0", "\ud800", "\N{SQUID}", "٣",
)  # fmt: skip
texts = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(_FRAGMENTS), max_size=25).map("".join),
    st.lists(st.sampled_from(_FRAGMENTS), max_size=12).map(" ".join),
    st.sampled_from(NO_DIGESTS),
)


def run(check: Fuzz, examples: int) -> None:
    """Run `check` on this many texts, the same ones each time."""
    given(texts)(
        settings(
            max_examples=examples, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        )(check)
    )()  # fmt: skip


def refusal(ask: Callable[[], object], *kinds: type[E]) -> E | None:
    """Call `ask` and return its error if it is of these kinds; any other error is raised."""
    try:
        ask()
    except kinds as error:
        return error
    return None


def same(expected: str, found: str) -> None:
    """Check that two texts are equal."""
    assert expected == found


def reference(text: str) -> None:
    """Check that a reference that parses is written as it was read."""
    error = refusal(lambda: same(text, str(parse_reference(text))), ReferenceInvalid)
    assert error is None or 0 <= error.position <= len(text)


def expression(text: str) -> None:
    """Check that a model parses or its error has a message."""
    error = refusal(lambda: parse_model(text), ExpressionInvalid, ReferenceInvalid)
    assert error is None or str(error)


def filter_text(text: str) -> None:
    """Check that a filter parses or its error's caret is in the text or just after it."""
    error = refusal(lambda: parse_filter(text), FilterInvalid)
    assert error is None or 0 <= error.position <= len(text)


CHECKS = {"reference": reference, "expression": expression, "filter": filter_text}


@pytest.mark.parametrize("name", CHECKS)
def test_any_text_is_parsed_or_refused(name: str) -> None:
    """Hundreds of texts raise only the parser's own error, with a position inside the text."""
    run(CHECKS[name], FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_thousands_of_texts_are_parsed_or_refused(name: str) -> None:
    """Five thousand texts raise only the parser's own error."""
    run(CHECKS[name], MANY)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def finder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Finder]:
    """A finder over an empty registry, to test the SQL statements."""
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path_factory.mktemp('fuzz') / 'weft.db'}")
        database.upgrade()
        yield Finder(database, Embedder())
        database.close()
        return
    with serve() as server:
        database = Database(server.create())
        database.upgrade()
        yield Finder(database, Embedder())
        database.close()


def _searching(finder: Finder) -> Fuzz:
    def search(text: str) -> None:
        for ask in (
            lambda: finder.search(filter=text),
            lambda: finder.search(like=parse_reference(text)),
            lambda: finder.search(text),
        ):
            error = refusal(ask, RegistryError)
            assert error is None or str(error)

    return search


def test_any_text_is_searched_or_refused(finder: Finder) -> None:
    """A text that parses as a filter gives a statement valid in both databases; words are data."""
    run(_searching(finder), SEARCHED_FEW)


@pytest.mark.slow
def test_a_thousand_texts_are_searched_or_refused(finder: Finder) -> None:
    """A thousand texts, three statements each, are searched or refused."""
    run(_searching(finder), SEARCHED_MANY)
