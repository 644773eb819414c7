"""Tests of the grammar of references and of its errors."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import AliasInvalid, DigestInvalid, NameInvalid, ReferenceInvalid
from registry.references import (
    MAX_ALIAS_LENGTH,
    MAX_LENGTH,
    Reference,
    check_alias,
    check_digest,
    check_name,
    numbered,
    parse_reference,
    suggest_name,
)

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("legal", Reference(name="legal")),
        ("acme/eu.law/legal_v-2", Reference(name="acme/eu.law/legal_v-2")),
        ("legal@3", Reference(name="legal", version=3)),
        ("legal@999999999", Reference(name="legal", version=999999999)),
        ("acme/legal@prod", Reference(name="acme/legal", alias="prod")),
        (DIGEST, Reference(digest=DIGEST)),
        ("f" + DIGEST[1:], Reference(digest="f" + DIGEST[1:])),
        ("1a2b3c4d5e6f", Reference(digest="1a2b3c4d5e6f")),
        ("a1b2c3d4e5f6", Reference(name="a1b2c3d4e5f6")),
        ("legal@" + "a" * MAX_ALIAS_LENGTH, Reference(name="legal", alias="a" * MAX_ALIAS_LENGTH)),
        ("a" * 63, Reference(name="a" * 63)),
        ("a" * MAX_LENGTH, Reference(name="a" * MAX_LENGTH)),
    ],
)
def test_each_form_is_read_and_written_alike(text: str, reference: Reference) -> None:
    """A name, a version, an alias and a digest parse, and `str` returns the same text."""
    assert reference == parse_reference(text)
    assert text == str(reference)


@pytest.mark.parametrize(
    ("text", "position", "word"),
    [
        ("", 0, "name"),
        ("Legal", 0, "lower-case"),
        ("3", 0, "name"),
        ("@prod", 0, "name"),
        ("../etc/passwd", 0, "name"),
        ("/etc", 0, "name"),
        ("sha256:" + DIGEST, 6, "@"),
        ("leGal", 2, "lower-case"),
        ("legal ", 5, "@"),
        ("legal\n", 5, "@"),
        ("legal\0", 5, "@"),
        ("l\u0435gal", 1, "lower-case"),  # a Cyrillic letter that looks like e
        ("a/", 2, "after the slash"),
        ("a//b", 2, "after the slash"),
        ("a/../b", 2, "after the slash"),
        ("a\\b", 1, "lower-case"),
        ("legal@", 6, "version number or an alias"),
        ("legal@0", 6, "version"),
        ("legal@03", 6, "version"),
        ("legal@-1", 6, "version"),
        ("legal@1000000000", 6, "version"),
        ("legal@3.5", 6, "version"),
        ("legal@Prod", 6, "alias"),
        ("legal@prod@3", 6, "alias"),
        ("legal@a/b", 6, "alias"),
        ("legal@" + "a" * (MAX_ALIAS_LENGTH + 1), 6, "alias"),
        ("a" * (MAX_LENGTH + 1), MAX_LENGTH, "at most 200"),
    ],
)
def test_a_bad_reference_says_where_and_what_was_expected(
    text: str, position: int, word: str
) -> None:
    """The error points at the first wrong character and names the expected ones."""
    with pytest.raises(ReferenceInvalid) as caught:
        parse_reference(text)
    assert position == caught.value.position
    assert word in caught.value.expected
    assert str(position) in str(caught.value)


def test_a_version_for_good_has_a_name_and_a_number() -> None:
    """`numbered` returns both parts of `name@3` and refuses every other form."""
    assert ("legal", 3) == numbered(Reference(name="legal", version=3))
    for text in ("legal", "legal@prod", DIGEST):
        with pytest.raises(ReferenceInvalid, match="version number") as caught:
            numbered(parse_reference(text))
        assert len(text) == caught.value.position


@settings(deadline=None)
@given(st.text(max_size=80))
def test_whatever_parses_is_written_back(text: str) -> None:
    """Any text is either a reference, whose `str` is that text, or raises ReferenceInvalid."""
    try:
        reference = parse_reference(text)
    except ReferenceInvalid as error:
        assert 0 <= error.position <= len(text)  # noqa: PT017 - most texts end here
    else:
        assert text == str(reference)


@settings(deadline=None)
@given(st.from_regex(r"\A[a-z][a-z0-9._/@-]{0,30}\Z"))
def test_what_is_a_name_is_a_reference_to_it(text: str) -> None:
    """`check_name` and `parse_reference` accept the same bare names."""
    try:
        check_name(text)
    except NameInvalid:
        assert not _is_bare_name(text)
    else:
        assert _is_bare_name(text)


def _is_bare_name(text: str) -> bool:
    try:
        return Reference(name=text) == parse_reference(text)
    except ReferenceInvalid:
        return False


@pytest.mark.parametrize(
    "name",
    ["", "A", "a b", "a@b", "a/", "../a", "a/../b", "/a", "a\0", "\uff41", "a" * 201, "ab" * 32],
)
def test_hostile_names_are_refused(name: str) -> None:
    """Paths, control characters, similar letters, digests and long texts are not valid names."""
    with pytest.raises(NameInvalid):
        check_name(name)


@pytest.mark.parametrize("alias", ["", "1", "Prod", "a/b", "a@b", "a\n", "a" * 61])
def test_hostile_aliases_are_refused(alias: str) -> None:
    """An alias is one segment that begins with a letter."""
    with pytest.raises(AliasInvalid):
        check_alias(alias)


@pytest.mark.parametrize("alias", ["a", "prod-2", "v1.2_rc", "a" * MAX_ALIAS_LENGTH])
def test_an_alias_of_the_documented_form_is_accepted(alias: str) -> None:
    """An alias may have any length up to the limit."""
    check_alias(alias)


def test_a_digest_is_accepted() -> None:
    """64 lower-case hex digits are a digest."""
    check_digest(DIGEST)


@pytest.mark.parametrize("digest", ["", "..", DIGEST[:-1], DIGEST + "0", DIGEST.upper(), "g" * 64])
def test_only_64_lower_case_hex_digits_are_a_digest(digest: str) -> None:
    """A text that is not a digest cannot become part of a path."""
    with pytest.raises(DigestInvalid):
        check_digest(digest)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Legal QA", "legal-qa"), ("team/2nd Try", "team/n-2nd-try"), ("Café", "cafe"),
        ("a" * 64, "n-" + "a" * 64), ("/x//y/", "x/y"), ("модель", None), ("", None),
        ("x" * 300, "x" * 200),
    ],
)  # fmt: skip
def test_an_invalid_name_suggests_a_valid_one(text: str, name: str | None) -> None:
    """The suggestion is a valid name, keeps the usable characters, and appears in the error."""
    assert name == suggest_name(text)
    if name is not None:
        check_name(name)
        if len(text) < 100:
            with pytest.raises(NameInvalid, match=f"For example '{name}'|digest"):
                check_name(text)
