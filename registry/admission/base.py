"""Which base an adapter is for: what its config says, what its card says, what the asker says.

Not covered: spellings (`registry.bases`), and whether the modules fit (`registry.admission.admit`).
"""

from collections.abc import Iterator, Sequence

from merge.peft_format import CONFIG_NAME
from registry.admission.card import CARD_NAME
from registry.admission.findings import finding
from registry.bases import base_key, canonical_base, quantised_note
from registry.types import Base, Finding

_MAX_SAID = 300


def find_base(
    said: str | None, card: str | None, known: Sequence[Base]
) -> tuple[Base | None, list[Finding]]:
    """Return the known base that the config names, or the card where the config names none.

    Args:
        said: the config's base_model_name_or_path.
        card: the base_model of the card's front matter.
        known: the bases to choose from.
    """
    base = _match(said, known)
    if base is not None:
        return base, [*_quantised(str(said)), *_disputed(base, card)]
    if not _is_name(said):
        base = _match(card, known)
        if base is not None:
            expected = f"a base's name; {base.name}, which the card names, is taken"
            return base, [finding("A035 base-from-card", CONFIG_NAME, expected, _quoted(said))]
        expected = "base_model_name_or_path that names a base; say which one with --base"
        return None, [finding("A032 base-not-named", CONFIG_NAME, expected, _quoted(said))]
    names = ", ".join(base.name for base in known) or "none is registered"
    expected = (
        f"a known base ({names}): say which with --base if it is one of these, or make it known "
        "with `weft bases add`"
    )
    return None, [finding("A030 base-unknown", CONFIG_NAME, expected, _quoted(said))]


def hold_against(said: str | None, card: str | None, base: Base) -> list[Finding]:
    """Return what speaks against the base that was asked for."""
    if _match(said, [base]) is not None:
        return [*_quantised(str(said)), *_disputed(base, card)]
    if not _is_name(said):
        expected = f"a base's name; {base.name} was given instead"
        assumed = finding("A034 base-assumed", CONFIG_NAME, expected, _quoted(said))
        return [assumed, *_disputed(base, card)]
    expected = f"{base.name}, which was asked for, or one of its aliases"
    return [finding("A031 base-mismatch", CONFIG_NAME, expected, _quoted(said))]


def plain(said: str) -> str:
    """Return a stranger's text, safe to print and to store."""
    return "".join(c if c.isprintable() else "?" for c in said[:_MAX_SAID])


def _match(text: str | None, known: Sequence[Base]) -> Base | None:
    if text is None:
        return None
    return next((base for base in known if base_key(text) in base.keys), None)


def _is_name(text: str | None) -> bool:
    return text is not None and canonical_base(text) is not None


def _quoted(said: str | None) -> str:
    if said is None:
        return "none"
    return plain(said) if _is_name(said) else f"the path {plain(said)}"


def _quantised(said: str) -> Iterator[Finding]:
    note = quantised_note(said)
    if note is not None:
        expected, found = "a base in full precision", f"training on a quantised copy ({note})"
        yield finding("A033 base-quantised", CONFIG_NAME, expected, found)


def _disputed(base: Base, card: str | None) -> Iterator[Finding]:
    if card is not None and _is_name(card) and _match(card, [base]) is None:
        yield finding("A036 base-disputed", CARD_NAME, f"base_model: {base.name}", plain(card))
