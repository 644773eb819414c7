"""Conversations as token ids, with labels on the assistant's tokens alone.

Covered: one conversation in tokens, batches of them. Not covered: reading and checking files (the
caller's), the loss (`losses`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

IGNORED = -100
_SHOWN, _SHOWN_TEXT = 5, 60  # of examples that are refused: how many, and characters of each

Message = Mapping[str, str]  # {"role": …, "content": …}


class ExampleInvalid(ValueError):
    """An example cannot be trained on; the message says which one and why."""


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation in tokens.

    Attributes:
        tokens: of the whole conversation in the chat template.
        labels: the same, with IGNORED at all tokens outside the assistant's messages.
        prompt: the tokens before the last answer, from which it can be generated.
        answer: the last answer's text.
    """

    tokens: tuple[int, ...]
    labels: tuple[int, ...]
    prompt: tuple[int, ...]
    answer: str


def encode(tokenizer: Any, messages: Sequence[Message], *, longest: int) -> Example:
    """Return a conversation in tokens.

    Earlier answers are labelled, too, if the template writes them as it did when they were the last
    message; some templates shorten earlier answers.

    Args:
        tokenizer: of transformers, with a chat template.
        messages: the last one is the assistant's.
        longest: the largest number of tokens.

    Raises:
        ExampleInvalid: the conversation is too long or does not end with an answer, or the template
            refuses it or rewrites the question once it is answered.
    """
    if not messages or messages[-1]["role"] != "assistant":
        raise ExampleInvalid("the last message must be the assistant's: it is the answer to learn")
    whole = _tokens(tokenizer, messages)
    if len(whole) > longest:
        raise ExampleInvalid(f"{len(whole)} tokens, the limit is {longest}: shorten it")
    labels = [IGNORED] * len(whole)
    for turn, message in enumerate(messages):
        if message["role"] == "assistant":
            before, after = _turn(tokenizer, messages, turn)
            if whole[: len(after)] == after and after[: len(before)] == before:
                labels[len(before) : len(after)] = after[len(before) :]
    prompt, _ = _turn(tokenizer, messages, len(messages) - 1)
    if all(label == IGNORED for label in labels[len(prompt) :]):
        raise ExampleInvalid("the chat template does not write the answer after the question")
    return Example(tuple(whole), tuple(labels), tuple(prompt), messages[-1]["content"])


def encode_all(
    tokenizer: Any, conversations: Sequence[Sequence[Message]], *, longest: int
) -> list[Example]:
    """Return conversations in tokens; see `encode`.

    Raises:
        ExampleInvalid: examples cannot be trained on; the message has the reasons of the first
            few and the number of the others.
    """
    encoded, bad = [], []
    for number, messages in enumerate(conversations, 1):
        try:
            encoded.append(encode(tokenizer, messages, longest=longest))
        except ExampleInvalid as error:
            start = messages[0]["content"] if messages else ""
            bad.append(f"number {number}, {start!r:.{_SHOWN_TEXT}}: {error}")
    if bad:
        more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise ExampleInvalid("; ".join(bad[:_SHOWN]) + more)
    if not encoded:
        raise ExampleInvalid("there are no examples: give at least one conversation")
    return encoded


def dump_examples(examples: Sequence[Example]) -> str:
    """Return examples as JSON; `load_examples` is the inverse."""
    return json.dumps([asdict(example) for example in examples])


def load_examples(text: str) -> list[Example]:
    """Return the examples that `dump_examples` wrote."""
    return [
        Example(tuple(e["tokens"]), tuple(e["labels"]), tuple(e["prompt"]), e["answer"])
        for e in json.loads(text)
    ]


def _turn(tokenizer: Any, messages: Sequence[Message], turn: int) -> tuple[list[int], list[int]]:
    """Return the tokens before an answer and those up to its end."""
    before = _tokens(tokenizer, messages[:turn], generation=True)
    return before, _tokens(tokenizer, messages[: turn + 1])


def _tokens(tokenizer: Any, messages: Sequence[Message], *, generation: bool = False) -> list[int]:
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            tokenize=False,
            add_generation_prompt=generation,
        )
    except (TemplateError, ValueError) as error:
        raise ExampleInvalid(f"the base's chat template refuses it: {error}") from error
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


class Batch(NamedTuple):
    """Examples side by side, padded at the end: (n, longest) each."""

    tokens: Tensor  # long
    labels: Tensor  # long, IGNORED outside answers
    mask: Tensor  # long, 0 at the padding


def collate(examples: Sequence[Example], device: torch.device) -> Batch:
    """Return `examples` as one batch."""
    width = max(len(example.tokens) for example in examples)
    tokens = torch.zeros(len(examples), width, dtype=torch.long)
    labels = torch.full_like(tokens, IGNORED)
    mask = torch.zeros_like(tokens)
    for row, example in enumerate(examples):
        end = len(example.tokens)
        tokens[row, :end] = torch.tensor(example.tokens)
        labels[row, :end] = torch.tensor(example.labels)
        mask[row, :end] = 1
    return Batch(tokens.to(device), labels.to(device), mask.to(device))


def pieces(examples: Sequence[Example], tokens: int) -> list[list[int]]:
    """Return positions of `examples` in groups of at most `tokens` padded tokens, by length."""
    return grouped([len(example.tokens) for example in examples], tokens)


def grouped(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Return positions by length, in groups whose size times longest is at most `tokens`.

    An item longer than `tokens` is a group of its own.
    """
    groups: list[list[int]] = []
    for at in sorted(range(len(lengths)), key=lambda at: lengths[at]):
        if groups and (len(groups[-1]) + 1) * lengths[at] <= tokens:
            groups[-1].append(at)
        else:
            groups.append([at])
    return groups
