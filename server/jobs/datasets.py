"""Examples as chat JSONL: read line by line, all bad lines reported together.

    {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}

Covered: the form of lines, and that no question is in both files. Not covered: how one file is
split (`merge.adaptive.split`), tokens (`merge.adaptive.scoring.examples`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from merge.adaptive.split import FEWEST_QUESTIONS, questions_of

Conversation: TypeAlias = tuple[Mapping[str, str], ...]
Param = Literal["training_file", "validation_file"]
ROLES = ("system", "developer", "user", "assistant")
# OpenAI's minimum, and the size of the paper's low-data study.
FEWEST = 10
_SHOWN = 20


class BadLine(NamedTuple):
    """A bad line, by its number from 1, and what is wrong with it."""

    number: int
    reason: str

    def __str__(self) -> str:
        """Return it as messages show it."""
        return f"line {self.number}: {self.reason}"


class DatasetInvalid(ValueError):
    """A file of examples cannot be used for a reason; `bad` has every bad line."""

    def __init__(self, param: Param, reason: str, bad: Sequence[BadLine] = ()) -> None:
        self.param, self.reason, self.bad = param, reason, tuple(bad)
        shown = "; ".join(map(str, self.bad[:_SHOWN]))
        more = f"; and {len(self.bad) - _SHOWN} more" if len(self.bad) > _SHOWN else ""
        super().__init__(f"{param}: {reason}{': ' if self.bad else ''}{shown}{more}")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Examples to learn from, and those that only measure: none where the former are split."""

    examples: tuple[Conversation, ...]
    validation: tuple[Conversation, ...]


def read_dataset(training: Path, validation: Path | None) -> Dataset:
    """Return the examples of a training file, and those of a validation file if there is one.

    Raises:
        DatasetInvalid: bad lines, too few examples or questions, or a question in both files.
        OSError: a file cannot be read.
    """
    examples = read_conversations(training, "training_file")
    check_enough(examples)
    if validation is None:
        return Dataset(tuple(examples.values()), ())
    held_out = read_conversations(validation, "validation_file")
    check_apart(examples, held_out)
    return Dataset(tuple(examples.values()), tuple(held_out.values()))


def check_enough(examples: Mapping[int, Conversation]) -> None:
    """Raise DatasetInvalid for too few examples, or too few different questions."""
    if len(examples) < FEWEST:
        reason = f"it has {len(examples)} examples; at least {FEWEST} are needed"
        raise DatasetInvalid("training_file", reason)
    asked = len(set(questions_of([*examples.values()])))
    if asked < FEWEST_QUESTIONS:
        reason = f"it asks {asked} different questions; at least {FEWEST_QUESTIONS} are needed"
        raise DatasetInvalid("training_file", reason)


def check_apart(train: Mapping[int, Conversation], validation: Mapping[int, Conversation]) -> None:
    """Raise DatasetInvalid for no example to measure on, or a question that is learned from."""
    if not validation:
        raise DatasetInvalid("validation_file", "it has no example")
    first: dict[str, int] = {}
    for number, question in zip(train, questions_of([*train.values()]), strict=True):
        first.setdefault(question, number)
    shared = [
        BadLine(number, f"asks what line {first[question]} of the training file asks")
        for number, question in zip(validation, questions_of([*validation.values()]), strict=True)
        if question in first
    ]
    if shared:
        raise DatasetInvalid("validation_file", "it has questions of the training file", shared)


def read_conversations(path: Path, param: Param) -> dict[int, Conversation]:
    """Return the examples of a file by their line numbers. Empty lines are skipped.

    Raises:
        DatasetInvalid: with every bad line.
        OSError: it cannot be read.
    """
    conversations, bad = parse_lines(path)
    if bad:
        lines = "one line is" if len(bad) == 1 else f"{len(bad)} lines are"
        raise DatasetInvalid(param, f"{lines} not an example", bad)
    return conversations


def parse_lines(path: Path) -> tuple[dict[int, Conversation], list[BadLine]]:
    """Return the examples of a file by their line numbers, and its bad lines.

    Raises:
        OSError: it cannot be read.
    """
    conversations: dict[int, Conversation] = {}
    bad: list[BadLine] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                conversations[number] = _conversation(line)
            except (ValueError, RecursionError) as error:
                bad.append(BadLine(number, str(error)))
    return conversations, bad


def prompts(conversations: Iterable[Sequence[Mapping[str, str]]]) -> Iterator[str]:
    """Yield the last message of the user in each conversation that has one."""
    for conversation in conversations:
        asked = [message["content"] for message in conversation if message["role"] == "user"]
        yield from asked[-1:]


def _conversation(line: bytes) -> Conversation:
    try:
        document = json.loads(line.decode())
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(document, dict) or not isinstance(messages := document.get("messages"), list):
        raise ValueError('expected {"messages": […]}')
    _refuse_others(document, ("messages",))
    conversation = tuple(_message(at, message) for at, message in enumerate(messages))
    if len(conversation) < 2:
        raise ValueError("expected at least a question and an answer")
    if conversation[-1]["role"] != "assistant":
        raise ValueError("the last message must be the assistant's: it is the one to learn")
    return conversation


def _message(at: int, message: Any) -> Mapping[str, str]:
    where = f"message {at + 1}"
    if not isinstance(message, dict):
        raise ValueError(f"{where}: expected an object")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise ValueError(f"{where}: role must be {', '.join(ROLES)}, not {role!r:.40}")
    if not isinstance(content, str) or not content.strip():
        raise ValueError(f"{where}: content must be a non-empty string")
    if not _is_unicode(content):
        raise ValueError(f"{where}: content has an unpaired surrogate; remove it")
    _refuse_others(message, ("role", "content"), f"{where}: ")
    return {"role": "system" if role == "developer" else role, "content": content}


def _refuse_others(document: Mapping[str, Any], known: Sequence[str], where: str = "") -> None:
    for name in document:
        if name not in known:
            raise ValueError(f"{where}{name!r:.40} is not supported, only {', '.join(known)}")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
