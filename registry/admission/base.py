"""Determine an adapter's base from its config, its card and the caller.

Not covered: spellings of a base (`registry.bases`), and the fit of the modules
(`registry.admission.admit`).
"""

import shlex
from collections.abc import Iterator, Sequence

from merge.peft_format import CONFIG_NAME
from registry.admission.card import CARD_NAME
from registry.admission.findings import finding
from registry.bases import base_key, canonical_base, quantised_note
from registry.types import Base, Finding

# The longest name of a base that a config may give: compared, stored and shown.
MAX_NAME = 300


def examine_base(
    named: str | None, card: str | None, base: Base | None, known: Sequence[Base]
) -> tuple[Base | None, list[Finding]]:
    """Return an adapter's base, and what is wrong with how config and card name it.

    Args:
        named: the config's base_model_name_or_path.
        card: the base_model of the card's front matter.
        base: the base that the caller names; it must be the one that the config names.
        known: the bases to choose from if the caller names none.
    """
    if named is not None and len(named) > MAX_NAME:  # before it is compared with anything
        expected = f"base_model_name_or_path of at most {MAX_NAME} characters"
        found = f"{len(named)} characters"
        return base, [finding("A037 base-name-length", CONFIG_NAME, expected, found)]
    if base is None:
        return find_base(named, card, known)
    return base, hold_against(named, card, base)


def find_base(
    named: str | None, card: str | None, known: Sequence[Base]
) -> tuple[Base | None, list[Finding]]:
    """Return the registered base that the config names, or else the one that the card names.

    Args:
        named: the config's base_model_name_or_path.
        card: the base_model of the card's front matter.
        known: the bases to choose from.
    """
    base = _match(named, known)
    if base is not None:
        return base, [*_quantised(str(named)), *_disputed(base, card)]
    if not _is_name(named):
        base = _match(card, known)
        if base is not None:
            expected = f"the name of a base; {base.name}, which the card names, is taken"
            return base, [finding("A035 base-from-card", CONFIG_NAME, expected, _quoted(named))]
        expected = f"base_model_name_or_path that names a base; {_how_to_give(known)}"
        return None, [finding("A032 base-not-named", CONFIG_NAME, expected, _quoted(named))]
    expected = f"a registered base; {_how_to_register(plain(str(named)), known)}"
    return None, [finding("A030 base-unknown", CONFIG_NAME, expected, _quoted(named))]


def hold_against(named: str | None, card: str | None, base: Base) -> list[Finding]:
    """Return the findings that contradict the base that the caller names."""
    if _match(named, [base]) is not None:
        return [*_quantised(str(named)), *_disputed(base, card)]
    if not _is_name(named):
        expected = f"the name of a base; {base.name}, which was given, is taken"
        assumed = finding("A034 base-assumed", CONFIG_NAME, expected, _quoted(named))
        return [assumed, *_disputed(base, card)]
    expected = (
        f"{base.name}, which was given, or another name of it; if both are the same model, run "
        f"`{_add_alias(base.name, plain(str(named)))}`; without --base the config decides"
    )
    return [finding("A031 base-mismatch", CONFIG_NAME, expected, _quoted(named))]


def plain(text: str) -> str:
    """Return text from an untrusted file in a form that is safe to print and store."""
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_NAME])


def _add_alias(base: str, name: str) -> str:
    return f"weft bases add {shlex.quote(base)} --alias {shlex.quote(name)}"


def _how_to_register(name: str, known: Sequence[Base]) -> str:
    """Return the commands that register `name` as a base or as another name of one."""
    new = f"run `weft bases add {shlex.quote(name)} --model MODEL` (a folder or a Hub id)"
    if not known:
        return f"none is registered; {new}"
    same = _add_alias(known[0].name if len(known) == 1 else "BASE", name)
    names = ", ".join(base.name for base in known)
    return f"if it is another name of {names}, run `{same}`; otherwise {new}"


def _how_to_give(known: Sequence[Base]) -> str:
    if not known:
        return "register one with `weft bases add NAME --model MODEL`, then give --base NAME"
    return "give one: " + " or ".join(f"--base {shlex.quote(base.name)}" for base in known)


def _match(text: str | None, known: Sequence[Base]) -> Base | None:
    if text is None:
        return None
    return next((base for base in known if base_key(text) in base.keys), None)


def _is_name(text: str | None) -> bool:
    return text is not None and canonical_base(text) is not None


def _quoted(named: str | None) -> str:
    if named is None:
        return "none"
    return plain(named) if _is_name(named) else f"the path {plain(named)}"


def _quantised(named: str) -> Iterator[Finding]:
    note = quantised_note(named)
    if note is not None:
        expected, found = "a base in full precision", f"training on a quantised copy ({note})"
        yield finding("A033 base-quantised", CONFIG_NAME, expected, found)


def _disputed(base: Base, card: str | None) -> Iterator[Finding]:
    if card is not None and _is_name(card) and _match(card, [base]) is None:
        yield finding("A036 base-disputed", CARD_NAME, f"base_model: {base.name}", plain(card))
