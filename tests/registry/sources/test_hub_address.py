"""Addresses on the Hub as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.references import check_name
from registry.sources.errors import HubAddressInvalid
from registry.sources.hub_address import HubAddress, parse_address, read_addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf:acme/Legal", HubAddress("acme/Legal")),
        ("acme/Legal", HubAddress("acme/Legal")),
        (" hf:acme/Legal@main\n", HubAddress("acme/Legal", "main")),
        ("hf:a/b@refs/pr/7#loras/v2", HubAddress("a/b", "refs/pr/7", "loras/v2")),
        ("hf:a/b#checkpoint-100", HubAddress("a/b", None, "checkpoint-100")),
    ],
)
def test_an_address_has_a_repository_and_perhaps_a_revision_and_a_subfolder(
    text: str, address: HubAddress
) -> None:
    """An address is parsed with and without `hf:`, and its text parses to the same address."""
    assert address == parse_address(text)
    assert address == parse_address(str(address))


@pytest.mark.parametrize(
    "text",
    [
        "", "hf:", "legal", "hf:a/b/c", "hf:../b", "hf:a/..", "hf:a--b/c", "hf:a/b@", "hf:a/b#",
        "hf:a/b@-x", "hf:a/b@a..b", "hf:a/b#/etc", "hf:a/b#../x", "hf:a/b#x/../y", "hf:a/b#x//y",
        "hf:a/b#.", "hf:a/b\0", "hf:a/b#x\0y", "hf:a/b#x\\y", "hf:á/b", "hf:" + "a" * 97 + "/b",
        "hf:a/b#" + "x/" * 120 + "x", "https://huggingface.co/a/b",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_the_form_of_one(text: str) -> None:
    """No address leaves the repository or names another host."""
    with pytest.raises(HubAddressInvalid, match="hf:owner/name@revision#subfolder"):
        parse_address(text)


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_an_error_of_ours(text: str) -> None:
    """A parsed address names a folder inside one repository and gives a valid name."""
    try:
        address = parse_address(text)
    except HubAddressInvalid:
        return
    assert ".." not in f"{address.repo}/{address.subfolder or ''}".split("/")
    check_name(address.name())


def test_a_name_follows_from_the_address() -> None:
    """The name is lower case, with a dash for each invalid character, and starts with a letter."""
    assert "acme/legal-qa/v2" == HubAddress("Acme/Legal-QA", "main", "V2").name()
    assert "n-01-ai/n-4bit/step-100" == HubAddress("01-ai/4bit", None, "step 100").name()


def test_only_a_commit_is_pinned() -> None:
    """A branch moves; forty hexadecimal digits do not."""
    assert HubAddress("a/b").at("0" * 40).pinned
    assert not HubAddress("a/b", "main").pinned
    assert not HubAddress("a/b").pinned


def test_a_list_has_one_address_a_line() -> None:
    """Empty lines and comments are skipped; an invalid line is an error."""
    lines = ["# the pool\n", "acme/a\n", "\n", "  hf:acme/b#v1\r\n"]
    assert [HubAddress("acme/a"), HubAddress("acme/b", None, "v1")] == list(read_addresses(lines))
    with pytest.raises(HubAddressInvalid, match="not an id"):
        list(read_addresses(["acme/a", "not an id"]))
