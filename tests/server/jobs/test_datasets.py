"""Examples: all bad lines are reported at once, and no question is in both files."""

import json
from pathlib import Path

import pytest

from server.jobs.datasets import DatasetInvalid, prompts, read_conversations, read_dataset
from tests.server.jobs.conftest import examples

QUESTION = {"role": "user", "content": "why?"}
ANSWER = {"role": "assistant", "content": "so"}


def file_of(folder: Path, text: str | bytes, name: str = "examples.jsonl") -> Path:
    """Return a file with this content."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def line(*messages: object, **more: object) -> str:
    """Return one line of a file."""
    return json.dumps({"messages": list(messages), **more})


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("nothing", "not JSON"),
        ("[1]", 'expected {"messages"'),
        ("[" * 100_000, "recursion"),
        ('{"messages": "hello"}', 'expected {"messages"'),
        (line(), "a question and an answer"),
        (line(ANSWER), "a question and an answer"),
        (line(QUESTION, QUESTION), "the assistant's"),
        (line("hello", ANSWER), "message 1: expected an object"),
        (line({"role": "tool", "content": "x"}, ANSWER), "message 1: role must be"),
        (line({"role": "user", "content": " "}, ANSWER), "message 1: content must be"),
        (line({"role": "user", "content": ["x"]}, ANSWER), "message 1: content must be"),
        (line({"role": "user", "content": "\ud800"}, ANSWER), "unpaired surrogate"),
        (line(QUESTION, ANSWER | {"weight": 0}), "message 2: 'weight' is not supported"),
        (line(QUESTION, ANSWER, tools=[]), "'tools' is not supported"),
    ],
)
def test_a_bad_line_is_told_with_its_number(tmp_path: Path, bad: str, says: str) -> None:
    """A bad line is reported with its mistake and its number; empty lines count."""
    path = file_of(tmp_path, f"{line(QUESTION, ANSWER)}\n\n{bad}\n")
    with pytest.raises(DatasetInvalid) as caught:
        read_conversations(path, "training_file")
    assert [3] == [item.number for item in caught.value.bad]
    assert says in str(caught.value)
    assert "training_file: one line is not an example: line 3: " in str(caught.value)


def test_every_bad_line_is_told_at_once(tmp_path: Path) -> None:
    """The message shows the first bad lines and counts the rest."""
    path = file_of(tmp_path, b"\xff\xfe\n" * 50)
    with pytest.raises(DatasetInvalid, match=r"50 lines are.*line 1: not UTF-8.*and 30 more") as e:
        read_conversations(path, "validation_file")
    assert [*range(1, 51)] == [item.number for item in e.value.bad]


def test_a_developer_is_the_system(tmp_path: Path) -> None:
    """OpenAI's role `developer` is read as `system`, which chat templates know."""
    path = file_of(tmp_path, line({"role": "developer", "content": "be kind"}, QUESTION, ANSWER))
    (found,) = read_conversations(path, "training_file").values()
    assert ["system", "user", "assistant"] == [message["role"] for message in found]
    assert ["why?"] == list(prompts([found]))


def test_one_file_is_not_split_here(tmp_path: Path) -> None:
    """Every example of the training file is there, in its order, equal ones too."""
    data = read_dataset(file_of(tmp_path, examples(12) * 3), None)
    assert (36, 0) == (len(data.examples), len(data.validation))
    assert [m["content"] for m in data.examples[13]] == ["what is 1?", "1"]


def test_two_files_may_share_nothing(tmp_path: Path) -> None:
    """A question in both files is reported with its line in each, whatever its answers."""
    training = file_of(tmp_path, examples(12))
    again = [line({"role": "user", "content": f"What is  {n}?"}, ANSWER) for n in (4, 5)]
    validation = file_of(tmp_path, "\n".join([line(QUESTION, ANSWER), *again]), "v.jsonl")
    with pytest.raises(DatasetInvalid, match="line 2: asks what line 5 of the training") as caught:
        read_dataset(training, validation)
    assert ("validation_file", [2, 3]) == (
        caught.value.param, [item.number for item in caught.value.bad],
    )  # fmt: skip
    validation.write_text(line(QUESTION, ANSWER))
    data = read_dataset(training, validation)
    assert (12, 1) == (len(data.examples), len(data.validation))


@pytest.mark.parametrize(
    ("text", "validation", "says"),
    [
        (examples(9), None, "training_file: it has 9 examples"),
        ("", None, "training_file: it has 0 examples"),
        (examples(2) * 6, None, "it asks 2 different questions; at least 3 are needed"),
        (examples(12), "\n", "validation_file: it has no example"),
    ],
)
def test_too_few_examples_are_refused(
    tmp_path: Path, text: str, validation: str | None, says: str
) -> None:
    """Fewer than ten examples, or three questions, are refused."""
    held_out = None if validation is None else file_of(tmp_path, validation, "v.jsonl")
    with pytest.raises(DatasetInvalid, match=says):
        read_dataset(file_of(tmp_path, text), held_out)
