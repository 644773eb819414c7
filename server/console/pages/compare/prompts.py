"""A file of prompts: one on each line, as text or as JSON with `prompt` or `messages`.

Covered: the checks, with the line of each that fails. Not covered: whether a prompt fits the
model's context, which the server says when it is asked.
"""

import json
from dataclasses import dataclass
from typing import TypedDict

MAX_PROMPTS = 200
MAX_BYTES = 1_000_000
_SHOWN_FAULTS = 5


class Message(TypedDict):
    """A message of a chat."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the models are asked; `text` is how a table shows it."""

    text: str
    messages: tuple[Message, ...]


class PromptsInvalid(ValueError):
    """Some lines of a file are not prompts; the message names them."""


def prompt_of(text: str) -> Prompt:
    """Return a prompt of one message."""
    return Prompt(text, ({"role": "user", "content": text},))


def read_prompts(raw: bytes) -> tuple[Prompt, ...]:
    """Return the prompts of a file, in order; empty lines are skipped.

    Raises:
        PromptsInvalid: too large, no text, no prompt, too many, or lines that cannot be read.
    """
    if len(raw) > MAX_BYTES:
        raise PromptsInvalid(
            f"The file has {len(raw):,} bytes, and at most {MAX_BYTES:,} are read. Split it."
        )
    try:
        lines = raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise PromptsInvalid(
            f"The file is not UTF-8 text (byte {error.start} is invalid). Save it as UTF-8."
        ) from error
    prompts: list[Prompt] = []
    faults: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            prompts.append(_read_line(line.strip()))
        except PromptsInvalid as error:
            faults.append(f"line {number}: {error}")
    if faults:
        more = f" (and {len(faults) - _SHOWN_FAULTS} more)" if len(faults) > _SHOWN_FAULTS else ""
        raise PromptsInvalid("; ".join(faults[:_SHOWN_FAULTS]) + more)
    if not prompts:
        raise PromptsInvalid("The file has no prompt. Write one on each line.")
    if len(prompts) > MAX_PROMPTS:
        raise PromptsInvalid(
            f"The file has {len(prompts):,} prompts, and a batch takes {MAX_PROMPTS}. Split it."
        )
    return tuple(prompts)


def _read_line(line: str) -> Prompt:
    if not line.startswith("{"):
        return prompt_of(line)
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PromptsInvalid(f"not JSON: {error}") from error
    if isinstance(document.get("prompt"), str) and document["prompt"].strip():
        return prompt_of(document["prompt"])
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise PromptsInvalid('expected {"prompt": "…"} or {"messages": [{"role": …}]}')
    return _of_messages([_read_message(message) for message in messages])


def _of_messages(messages: list[Message]) -> Prompt:
    """Return a prompt of messages; an answer at the end is left out, as in files of examples."""
    if messages[-1]["role"] == "assistant":
        messages = messages[:-1]
    users = [message["content"] for message in messages if message["role"] == "user"]
    if not users:
        raise PromptsInvalid("no message of the role user")
    return Prompt(users[-1], tuple(messages))


def _read_message(raw: object) -> Message:
    if isinstance(raw, dict):
        role, content = raw.get("role"), raw.get("content")
        if isinstance(role, str) and isinstance(content, str):
            return {"role": role, "content": content}
    raise PromptsInvalid("a message is an object with the texts role and content")
