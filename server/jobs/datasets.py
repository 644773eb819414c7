"""Examples as chat JSONL: read line by line, every bad line told at once, then split.

    {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}

Covered: the form of lines, the 80/20 split, and that no example stands on both sides. Not covered:
tokens (`merge.adaptive.scoring.examples`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

Conversation: TypeAlias = tuple[Mapping[str, str], ...]
Param = Literal["training_file", "validation_file"]
ROLES = ("system", "developer", "user", "assistant")
# As many as OpenAI asks for; the paper's low-data study has as many.
FEWEST = 10
VALIDATION_SHARE = 0.2
_SHOWN = 20


class BadLine(NamedTuple):
    """What is wrong with a line, counted from 1."""

    number: int
    reason: str

    def __str__(self) -> str:
        """Return it as a sentence has it."""
        return f"line {self.number}: {self.reason}"


class DatasetInvalid(ValueError):
    """Examples that cannot be learned from; `bad` has every bad line."""

    def __init__(self, param: Param, reason: str, bad: Sequence[BadLine] = ()) -> None:
        self.param, self.bad = param, tuple(bad)
        shown = "; ".join(map(str, self.bad[:_SHOWN]))
        more = f"; and {len(self.bad) - _SHOWN} more" if len(self.bad) > _SHOWN else ""
        super().__init__(f"{param}: {reason}{': ' if self.bad else ''}{shown}{more}")


@dataclass(frozen=True, slots=True)
class Dataset:
    """What is learned from, and what decides and measures."""

    train: tuple[Conversation, ...]
    validation: tuple[Conversation, ...]


def read_dataset(training: Path, validation: Path | None, *, seed: int) -> Dataset:
    """Return the examples of a training file, split by seed, or with their validation file.

    Equal examples stay on one side of a split.

    Raises:
        DatasetInvalid: bad lines, too few examples, or some that stand in both files.
        OSError: a file cannot be read.
    """
    examples = read_examples(training, "training_file")
    if len(examples) < FEWEST:
        said = f"{len(examples)} examples are too few: at least {FEWEST}"
        raise DatasetInvalid("training_file", said)
    if validation is None:
        return _split(list(examples.values()), seed)
    held_out = read_examples(validation, "validation_file")
    if not held_out:
        raise DatasetInvalid("validation_file", "it holds no example")
    _refuse_shared(examples, held_out)
    return Dataset(tuple(examples.values()), tuple(held_out.values()))


def read_examples(path: Path, param: Param) -> dict[int, Conversation]:
    """Return the examples of a file by the numbers of their lines; empty lines are left out.

    Raises:
        DatasetInvalid: with every bad line.
        OSError: it cannot be read.
    """
    found: dict[int, Conversation] = {}
    bad: list[BadLine] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                found[number] = _conversation(line)
            except (ValueError, RecursionError) as error:
                bad.append(BadLine(number, str(error)))
    if bad:
        lines = "one line is" if len(bad) == 1 else f"{len(bad)} lines are"
        raise DatasetInvalid(param, f"{lines} not an example", bad)
    return found


def prompts(conversations: Iterable[Sequence[Mapping[str, str]]]) -> Iterator[str]:
    """Yield what is asked at the end of each: the last user's message."""
    for conversation in conversations:
        said = [each["content"] for each in conversation if each["role"] == "user"]
        yield from said[-1:]


def _conversation(line: bytes) -> Conversation:
    try:
        read = json.loads(line.decode())
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(read, dict) or not isinstance(messages := read.get("messages"), list):
        raise ValueError('expected {"messages": […]}')
    _refuse_others(read, ("messages",))
    conversation = tuple(_message(at, each) for at, each in enumerate(messages))
    if len(conversation) < 2:
        raise ValueError("expected a question and an answer at least")
    if conversation[-1]["role"] != "assistant":
        raise ValueError("the last message must be the assistant's: it is what is learned")
    return conversation


def _message(at: int, message: Any) -> Mapping[str, str]:
    where = f"message {at + 1}"
    if not isinstance(message, dict):
        raise ValueError(f"{where}: expected an object")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise ValueError(f"{where}: role must be {', '.join(ROLES)}, not {role!r:.40}")
    if not isinstance(content, str) or not content.strip():
        raise ValueError(f"{where}: content must be a text that is not empty")
    if not _is_unicode(content):
        raise ValueError(f"{where}: content holds half a character")
    _refuse_others(message, ("role", "content"), f"{where}: ")
    return {"role": "system" if role == "developer" else role, "content": content}


def _refuse_others(found: Mapping[str, Any], known: Sequence[str], where: str = "") -> None:
    for name in found:
        if name not in known:
            raise ValueError(f"{where}{name!r:.40} is not supported, only {', '.join(known)}")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _key(conversation: Conversation) -> str:
    return json.dumps(conversation)


def _refuse_shared(
    train: Mapping[int, Conversation], validation: Mapping[int, Conversation]
) -> None:
    first: dict[str, int] = {}
    for number, each in train.items():
        first.setdefault(_key(each), number)
    shared = [
        BadLine(number, f"it is line {first[key]} of the training file")
        for number, each in validation.items()
        if (key := _key(each)) in first
    ]
    if shared:
        raise DatasetInvalid("validation_file", "it must share no example", shared)


def _split(examples: Sequence[Conversation], seed: int) -> Dataset:
    """Return the examples with about a fifth of the distinct ones held out."""
    distinct = list(dict.fromkeys(map(_key, examples)))
    count = max(1, round(VALIDATION_SHARE * len(distinct)))
    if len(distinct) < 2:
        raise DatasetInvalid("training_file", "all examples are the same: none can be held out")
    drawn = np.random.default_rng(seed).permutation(len(distinct))[:count]
    held_out = {distinct[at] for at in drawn}
    train = tuple(each for each in examples if _key(each) not in held_out)
    return Dataset(train, tuple(each for each in examples if _key(each) in held_out))
