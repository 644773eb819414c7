"""The tokenizer files beside an adapter or a base: chat template and added tokens.

The gateway renders prompts with the base's template and tokenizer, so an adapter that was trained
with others answers worse. Not covered: tokens with unused ids inside the base's vocabulary, and
processors' templates.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from registry.admission.findings import finding
from registry.types import Base, Finding

TOKENIZER_NAME = "tokenizer_config.json"
TEMPLATE_NAME = "chat_template.jinja"
ADDED_TOKENS_NAME = "added_tokens.json"
TOKENIZER_FILES = (TOKENIZER_NAME, TEMPLATE_NAME, ADDED_TOKENS_NAME)
# A tokenizer_config.json with 256 reserved tokens takes 55 KB.
MAX_TOKENIZER_BYTES = 2**22
_DIGITS_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """The parsed files; `chat_template` is the SHA-256 of the template's text (64 hex digits)."""

    chat_template: str | None
    added_tokens: Mapping[str, int]  # ids by token


def read_tokenizer(folder: Path) -> Tokenizer:
    """Return chat template and added tokens of a folder; files that cannot be parsed are skipped.

    Raises:
        OSError: a file cannot be read.
    """
    config = _load(folder / TOKENIZER_NAME)
    template = _read(
        folder / TEMPLATE_NAME
    )  # as in transformers, the separate file takes precedence
    if template is None:
        template = _default_template(config.get("chat_template"))
    return Tokenizer(template and hash_of(template), _added_tokens(folder, config))


def hash_of(template: str) -> str:
    """Return the SHA-256 of a template; line ends and surrounding space do not matter."""
    return hashlib.sha256(template.replace("\r\n", "\n").strip().encode()).hexdigest()


def tokenizer_findings(tokenizer: Tokenizer, base: Base) -> Iterator[Finding]:
    """Compare an adapter's tokenizer with its base's."""
    own, expected = tokenizer.chat_template, base.chat_template
    if own is not None and expected is not None and own != expected:
        yield finding(
            "A063 chat-template", TOKENIZER_NAME,
            f"the chat template of {base.name} ({expected[:_DIGITS_SHOWN]}), which is used",
            f"another one ({own[:_DIGITS_SHOWN]})",
        )  # fmt: skip
    vocabulary = max((d_in for _, d_in in _embeddings(base)), default=None)
    new = sorted(t for t, i in tokenizer.added_tokens.items() if vocabulary and i >= vocabulary)
    if new:
        expected = f"the {vocabulary} tokens of {base.name}"
        names = ascii(new[0][:40])
        yield finding("A064 added-tokens", TOKENIZER_NAME, expected, f"{len(new)} more, as {names}")


def _embeddings(base: Base) -> Iterator[tuple[int, int]]:
    return (shape for name, shape in base.shapes.items() if name.endswith("embed_tokens"))


def _added_tokens(folder: Path, config: Mapping[str, object]) -> dict[str, int]:
    tokens = {
        token: number
        for token, number in _load(folder / ADDED_TOKENS_NAME).items()
        if isinstance(number, int)
    }
    decoder = config.get("added_tokens_decoder")
    for number, token in decoder.items() if isinstance(decoder, dict) else ():
        if isinstance(token, dict) and number.isdecimal() and len(number) < 10:
            tokens[str(token.get("content"))] = int(number)
    return tokens


def _default_template(value: object) -> str | None:
    """Return the template of a tokenizer_config.json: its text, or the default of a list."""
    if isinstance(value, list):
        named = (item for item in value if isinstance(item, dict) and item.get("name") == "default")
        value = next(named, {}).get("template")
    return value if isinstance(value, str) and value.strip() else None


def _load(path: Path) -> Mapping[str, object]:
    try:
        document = json.loads(_read(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _read(path: Path) -> str | None:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_TOKENIZER_BYTES:
        return None
    return path.read_bytes().decode("utf-8-sig", "replace")
