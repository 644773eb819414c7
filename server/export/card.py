"""The model card (`README.md`) of an exported adapter: what it is, what it was made of.

The card has the Hub's front matter, a part that weft writes, between two marks, and the author's
own text. An exported card that is imported and exported again has weft's part once.
"""

import json
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from registry.admission.card import split_card

_BEGIN, _END = "<!-- weft: written on export -->", "<!-- weft: end -->"
_AND = " AND "
_PLAIN = frozenset(string.ascii_letters + string.digits + "._-/")
_OWN_KEYS = ("base_model", "library_name", "license", "licence", "license_name", "tags")
_KEY = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*):")


@dataclass(frozen=True, slots=True)
class MadeBy:
    """A recipe that made the exported content, and the licence of each ingredient."""

    digest: str
    expression: str
    ingredients: Sequence[tuple[str, float, str | None]]  # reference, weight, licence
    compositions: Sequence[str]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One evaluation of what is exported; `n` is the number of examples."""

    reference: str
    dataset: str
    metric: str
    value: float
    n: int | None
    measured_at: datetime


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What the card of an export says.

    `facts` are rows of a table, and `text` is the card that the adapter was imported with.
    """

    name: str
    digest: str
    base: str
    licence: str | None  # of a merge: those of its ingredients, joined by AND
    facts: Mapping[str, str]
    made_by: Sequence[MadeBy] = ()
    evaluations: Sequence[Measurement] = ()
    text: str | None = None


def card_of(facts: CardFacts) -> str:
    """Return the card as Markdown."""
    front, body = split_card(facts.text or "")
    before, mark, rest = body.partition(_BEGIN)
    own = before + rest.partition(_END)[2] if mark else body
    parts = [
        "---\n" + "\n".join([*_front_matter(facts), *_others(front)]) + "\n---",
        _BEGIN,
        *_sections(facts),
        _END,
    ]
    return "\n\n".join([*parts, *filter(None, [own.strip()])]) + "\n"


def _front_matter(facts: CardFacts) -> Iterator[str]:
    yield f"base_model: {_scalar(facts.base)}"
    yield "library_name: peft"
    yield from _licence(facts.licence)
    yield "tags:"
    for tag in ("lora", "peft", "weft", *(["merge"] if facts.made_by else [])):
        yield f"- {tag}"


def _licence(licence: str | None) -> Iterator[str]:
    """Yield the licence as the Hub and `registry.admission.card` read it.

    The Hub takes one identifier. Of several licences the whole expression is in `licence`, which
    weft reads first.
    """
    if licence is None:
        return
    if _AND in licence:
        yield f"licence: {_scalar(licence)}"
        yield "license: other"
        yield f"license_name: {_scalar(licence)}"
    else:
        yield f"license: {_scalar(licence)}"


def _others(front: Iterable[str]) -> Iterator[str]:
    """Yield the lines of the author's front matter but for the keys that weft writes."""
    kept = True
    for line in front:
        if (key := _KEY.match(line)) is not None:
            kept = key[1] not in _OWN_KEYS
        elif not line.startswith((" ", "-", "\t")):
            kept = False  # neither a key nor a value's next line
        if kept:
            yield line


def _sections(facts: CardFacts) -> Iterator[str]:
    yield f"# {_text(facts.name)}"
    rows = {
        "base": facts.base, "digest": facts.digest,
        "licence": facts.licence or "not stated", **facts.facts,
    }  # fmt: skip
    yield _table(("", ""), ((name, _code(value)) for name, value in rows.items()))
    for recipe in facts.made_by:
        yield "## Made by"
        yield f"```\n{recipe.expression}\n```"
        yield f"Recipe {_code(recipe.digest)}" + "".join(
            f", {_code(composition)}" for composition in recipe.compositions
        )
        yield _table(
            ("ingredient", "weight", "licence"),
            (
                (_code(reference), f"{weight:g}", _code(licence) if licence else "not stated")
                for reference, weight, licence in recipe.ingredients
            ),
        )
    if facts.evaluations:
        yield "## Evaluations"
        yield _table(
            ("of", "dataset", "metric", "value", "examples", "measured"),
            (
                (_code(e.reference), _text(e.dataset), _text(e.metric), f"{e.value:g}",
                 "" if e.n is None else str(e.n), f"{e.measured_at:%Y-%m-%d}")
                for e in facts.evaluations
            ),
        )  # fmt: skip


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _scalar(text: str) -> str:
    """Return a YAML scalar: as it is where it is plain, else quoted."""
    return text if _PLAIN.issuperset(text) and text[:1].isalnum() else json.dumps(text)


def _text(value: str) -> str:
    """Return text that no reader of Markdown takes for markup, a link or another cell."""
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", " ".join(value.split()))


def _code(value: str) -> str:
    return "`" + " ".join(value.split()).replace("`", "'").replace("|", "\\|") + "`"
