"""The card beside an adapter."""

from collections.abc import Callable
from pathlib import Path

import pytest

from registry.admission.card import MAX_CARD_BYTES, Card, read_card
from tests.growth import LINEAR, growth


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\n# Legal", "apache-2.0"),
        ("---\r\nlicense: 'llama3.1'\r\n---\r\n", "llama3.1"),
        ('---\ntags: [a]\nlicence: "mit"\n---\n', "mit"),
        ("---\nbase_model: x\n---\nlicense: mit", None),
        ("# no front matter\nlicense: mit", None),
        ("---\nlicense:\n- mit\n---\n", None),
        ("---\nlicense: [mit]\nlicence: mit\n---\n", "mit"),
        ("---\nlicense: mit", None),
        ("", None),
    ],
)
def test_the_licence_is_what_the_front_matter_says(
    tmp_path: Path, text: str, licence: str | None
) -> None:
    """Only a plain value of the front matter is read; the text is unchanged."""
    (tmp_path / "README.md").write_bytes(text.encode())
    card = read_card(tmp_path)
    assert (text, licence) == (card.text, card.licence)


@pytest.mark.parametrize(
    ("front", "base"),
    [
        ("base_model: meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("base_model:\n- acme/Tiny\n- acme/Other\ntags: [x]", "acme/Tiny"),
        ("license: mit\nbase_model: 'acme/Tiny'", "acme/Tiny"),
        ('base_model:\n  -   "acme/Tiny"', "acme/Tiny"),
        ("base_model_relation: adapter", None),
        ("base_model: two words", None),
        ("base_model:", None),
    ],
)
def test_the_base_is_what_the_front_matter_says(
    tmp_path: Path, front: str, base: str | None
) -> None:
    """The base is one name, or the first of a list."""
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\nbase_model: not/this\n")
    assert base == read_card(tmp_path).base


def test_a_folder_without_a_card_says_nothing(tmp_path: Path) -> None:
    """A missing card, a folder and a link all give an empty card."""
    assert Card() == read_card(tmp_path)
    (tmp_path / "README.md").symlink_to("/etc/hostname")
    assert Card() == read_card(tmp_path)
    (tmp_path / "README.md").unlink()
    (tmp_path / "README.md").mkdir()
    assert Card() == read_card(tmp_path)


def test_a_hostile_card_is_harmless(tmp_path: Path) -> None:
    """A long card is truncated; invalid UTF-8 and NUL are replaced."""
    (tmp_path / "README.md").write_bytes(b"a\0\xff" + b"b" * (2 * MAX_CARD_BYTES))
    text = read_card(tmp_path).text or ""
    assert "a��b" == text[:4]
    assert MAX_CARD_BYTES == len(text)


@pytest.mark.parametrize(
    "line",
    ["license:{blanks}!", "base_model:{blanks}!", "base_model:\n{blanks}-{blanks}!", "{blanks}",
     "license: '{letters}!", "license: mit\n" * 20_000, "base_model:\n" * 20_000, "\n---" * 2],
)  # fmt: skip
def test_no_card_takes_long_to_read(tmp_path: Path, line: str) -> None:
    """The time to read front matter grows as its length does, to 256 KiB, whatever it says."""

    def card(size: int) -> Callable[[], object]:
        folder = tmp_path / str(size)
        folder.mkdir()
        front = line.format(blanks=" " * size, letters="a" * size)
        (folder / "README.md").write_text(f"---\n{front}"[: size - 4] + "\n---")
        return lambda: read_card(folder)

    assert growth(card, MAX_CARD_BYTES) < LINEAR
