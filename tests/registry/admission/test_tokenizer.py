"""The tokenizer files beside an adapter, and its config's statements on training."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from registry.admission import tokenizer
from registry.admission.admit import AdmissionPolicy, admit
from registry.admission.tokenizer import hash_of
from registry.types import Base
from tests.registry.conftest import write_adapter

TEMPLATES: list[dict[str, bytes]] = [
    {"chat_template.jinja": b"{{ a }}\r\n"},
    {"tokenizer_config.json": b'{"chat_template": "{{ a }}"}'},
    {"tokenizer_config.json": b'{"chat_template": [{"name": "tool", "template": "x"},'
                              b' {"name": "default", "template": "{{ a }}"}]}'},
    {"tokenizer_config.json": b'{"chat_template": "old"}', "chat_template.jinja": b"{{ a }}"},
]  # fmt: skip


@pytest.mark.parametrize("files", TEMPLATES)
def test_a_template_is_found_wherever_transformers_writes_it(
    tmp_path: Path, tiny_base: Base, files: dict[str, bytes]
) -> None:
    """The template's hash is a fact of the version; the base's own template gives no finding."""
    folder = write_adapter(tmp_path / "a")
    for name, data in files.items():
        (folder / name).write_bytes(data)
    base = replace(tiny_base, chat_template=hash_of("{{ a }}"))
    report = admit(folder, base, AdmissionPolicy())
    assert () == report.findings
    assert report.facts is not None
    assert hash_of("{{ a }}") == report.facts.chat_template
    other = replace(tiny_base, chat_template=hash_of("{{ b }}"))
    assert ["A063 chat-template"] == [
        item.problem.code for item in admit(folder, other, AdmissionPolicy()).findings
    ]


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b"\xff", b'{"chat_template": 1}', b'{"added_tokens_decoder": [1]}',
             b'{"added_tokens_decoder": {"x": {}, "7": 1}}', b"[" * 100_000],
)  # fmt: skip
def test_a_tokenizer_that_is_not_understood_says_nothing(
    tmp_path: Path, tiny_base: Base, data: bytes
) -> None:
    """Unreadable tokenizer files are neither errors nor findings."""
    folder = write_adapter(tmp_path / "a")
    (folder / "tokenizer_config.json").write_bytes(data)
    (folder / "added_tokens.json").write_bytes(data)
    report = admit(folder, tiny_base, AdmissionPolicy())
    assert () == report.findings


@pytest.mark.parametrize(
    ("name", "document", "expected"),
    [
        ("added_tokens.json", {"<|a|>": 39}, None),
        ("added_tokens.json", {"<|b|>": 40, "<|a|>": 41, "<|c|>": 3}, "2 more, as '<|a|>'"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"39": {"content": "<|a|>"}}}, None),
        ("tokenizer_config.json", {"added_tokens_decoder": {"40": {"content": "<|a|>"}}},
         "1 more, as '<|a|>'"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"9" * 10: {"content": "x"}}}, None),
    ],
)  # fmt: skip
def test_tokens_beyond_the_vocabulary_are_counted(
    tmp_path: Path, tiny_base: Base, name: str, document: object, expected: str | None
) -> None:
    """Tokens whose ids the base's vocabulary of 40 lacks are counted, and the first is named."""
    folder = write_adapter(tmp_path / "a")
    (folder / name).write_text(json.dumps(document))
    counts = [item.problem.found for item in admit(folder, tiny_base, AdmissionPolicy()).findings]
    assert counts == ([] if expected is None else [expected])


def test_a_file_over_the_limit_and_a_link_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tokenizer file is read up to MAX_TOKENIZER_BYTES, and never through a symbolic link."""
    monkeypatch.setattr(tokenizer, "MAX_TOKENIZER_BYTES", 4)
    (tmp_path / "chat_template.jinja").write_text("abcd")
    assert hash_of("abcd") == tokenizer.read_tokenizer(tmp_path).chat_template
    (tmp_path / "chat_template.jinja").rename(tmp_path / "other")
    (tmp_path / "chat_template.jinja").symlink_to(tmp_path / "other")
    assert tokenizer.read_tokenizer(tmp_path).chat_template is None
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "chat_template.jinja").write_text("abcde")
    assert tokenizer.read_tokenizer(tmp_path).chat_template is None


def test_where_the_config_comes_from_is_a_fact(tmp_path: Path, tiny_base: Base) -> None:
    """PEFT's release and the dropout are facts; invalid values are not stored."""
    folder = write_adapter(tmp_path / "a", peft_version="0.18.0", lora_dropout=0.1)
    facts = admit(folder, tiny_base, AdmissionPolicy()).facts
    assert facts is not None
    assert ("0.18.0", 0.1) == (facts.peft_version, facts.lora_dropout)
    folder = write_adapter(tmp_path / "b", peft_version="\x00", lora_dropout=7)
    facts = admit(folder, tiny_base, AdmissionPolicy()).facts
    assert facts is not None
    assert (None, None) == (facts.peft_version, facts.lora_dropout)
