"""A file of prompts: its lines, and the lines that cannot be read."""

import json

import pytest

from server.console.pages.compare.prompts import (
    MAX_BYTES,
    MAX_PROMPTS,
    PromptsInvalid,
    prompt_of,
    read_prompts,
)


def test_a_line_is_a_prompt() -> None:
    """Each line of text is a prompt; empty lines, line ends of Windows and a mark are skipped."""
    assert (prompt_of("one"), prompt_of("two")) == read_prompts(b"\xef\xbb\xbfone\r\n\r\n two \n")


def test_lines_may_be_json() -> None:
    """A line may have `prompt`, or `messages` whose last answer, as of an example, is left out."""
    chat = [
        {"role": "system", "content": "Be short."}, {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So."},
    ]  # fmt: skip
    lines = [json.dumps({"prompt": "How?"}), json.dumps({"messages": chat})]
    first, second = read_prompts("\n".join(lines).encode())
    assert prompt_of("How?") == first
    assert ("Why?", ["system", "user"]) == (second.text, [m["role"] for m in second.messages])


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"fine\n{not json}\n", "line 2: not JSON"),
        (b'{"prompt": 3}', "line 1: expected"),
        (b'{"messages": [{"role": "user"}]}', "line 1: a message is"),
        (b'{"messages": [{"role": "assistant", "content": "x"}]}', "line 1: no message"),
        (b'["a"]\n{"a": ' + b"[" * 5000, "line 2: not JSON"),
        (b"{}\n" * 7, "and 2 more"),
        (b"\xff\xfe", r"not UTF-8 text \(byte 0"),
        (b" \n\n", "no prompt"),
        (b"x\n" * (MAX_PROMPTS + 1), "201 prompts"),
        (b"x" * (MAX_BYTES + 1), "1,000,001 bytes"),
    ],
)
def test_what_cannot_be_read_is_told_by_line(raw: bytes, told: str) -> None:
    """Lines that are not prompts are refused with their numbers and what was expected there."""
    with pytest.raises(PromptsInvalid, match=told):
        read_prompts(raw)
