"""The model card of an export."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import yaml

from registry.admission.card import read_card, split_card
from server.export.card import CardFacts, MadeBy, Measurement, card_of

FACTS = CardFacts("team/legal@2", "ab" * 32, "acme/Tiny", "mit", {"rank": "8"})
MERGE = MadeBy(
    "cd" * 32, "cat(legal@2, sql@1)", [("legal@2", 1.0, "mit"), ("sql@1", 1.0, None)], ()
)


def front(card: str) -> dict[str, object]:
    """Return the front matter of a card as YAML reads it."""
    lines, _ = split_card(card)
    document: dict[str, object] = yaml.safe_load("\n".join(lines))
    return document


def test_weft_reads_what_it_writes(tmp_path: Path) -> None:
    """Base and licence of a card are what they were, for one licence and for those of a merge."""
    for licence in ("mit", "apache-2.0 AND mit", "NOASSERTION AND llama3.1", None):
        (tmp_path / "README.md").write_text(card_of(replace(FACTS, licence=licence)))
        card = read_card(tmp_path)
        assert ("acme/Tiny", licence) == (card.base, card.licence)


def test_the_front_matter_is_what_the_hub_expects() -> None:
    """It is YAML whose licence is one identifier: `other` with a name where there are several."""
    plain = front(card_of(FACTS))
    assert ("acme/Tiny", "peft", "mit") == (
        plain["base_model"], plain["library_name"], plain["license"],
    )  # fmt: skip
    several = front(card_of(replace(FACTS, licence="apache-2.0 AND mit", made_by=[MERGE])))
    assert ("other", "apache-2.0 AND mit") == (several["license"], several["license_name"])
    assert "merge" in several["tags"]  # type: ignore[operator]  # a list
    odd = front(card_of(replace(FACTS, base="a: b # c\n- d")))
    assert odd["base_model"] == "a: b # c\n- d"


def test_the_author_s_text_stays_and_weft_s_part_is_there_once() -> None:
    """An export that is imported and exported again has the same card, with the author's front
    matter and text."""
    text = "---\nlanguage: de\nlicense: gpl\ntags: [a]\ndatasets:\n- court\n---\n# Legal\n\nHi.\n"
    once = card_of(replace(FACTS, text=text))
    assert once == card_of(replace(FACTS, text=once))
    assert once.endswith("# Legal\n\nHi.\n")
    assert ("de", ["court"], "mit") == tuple(
        front(once)[key] for key in ("language", "datasets", "license")
    )


def test_the_body_says_what_it_was_made_of_and_what_was_measured() -> None:
    """The expression, every ingredient with its licence, and every evaluation are in the card."""
    day = datetime(2026, 11, 1, tzinfo=UTC)
    measured = [Measurement("team/legal@2", "court", "f1", 0.5, None, day)]
    card = card_of(replace(FACTS, made_by=[MERGE], evaluations=measured))
    assert "```\ncat(legal@2, sql@1)\n```" in card
    assert "| `sql@1` | 1 | not stated |" in card
    assert "| `team/legal@2` | court | f1 | 0.5 |  | 2026-11-01 |" in card


def test_text_of_others_is_no_markup() -> None:
    """Names that others chose add no cells, links or images to the tables."""
    day = datetime(2026, 11, 1, tzinfo=UTC)
    bad = [Measurement("a@1", "![x](http://x)|y", "<b>", 1.0, 3, day)]
    facts = {"source": "`x` | [y](http://y)"}
    card = card_of(replace(FACTS, facts=facts, evaluations=bad))
    assert r"\!\[x\](http://x)\|y | \<b\>" in card
    assert r"`'x' \| [y](http://y)`" in card
