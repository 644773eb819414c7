"""Examples: all bad lines are reported at once, and no example is in both splits."""

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


def test_a_fifth_is_held_out_by_seed(tmp_path: Path) -> None:
    """One seed gives one split, another seed another one, and no example is lost."""
    path = file_of(tmp_path, examples(50))
    first, again, other = (read_dataset(path, None, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert (40, 10) == (len(first.train), len(first.validation))
    assert 50 == len({json.dumps(item) for item in (*first.train, *first.validation)})


def test_equal_examples_stay_on_one_side(tmp_path: Path) -> None:
    """Equal examples are in the same split, so that validation measures no learned example."""
    path = file_of(tmp_path, examples(12) * 3)
    for seed in range(10):
        data = read_dataset(path, None, seed=seed)
        sides = [{json.dumps(item) for item in side} for side in (data.train, data.validation)]
        assert not sides[0] & sides[1]
        assert 36 == len(data.train) + len(data.validation)


def test_two_files_may_share_nothing(tmp_path: Path) -> None:
    """An example in both files is reported with its line in each."""
    training = file_of(tmp_path, examples(12))
    lines = examples(12).splitlines()
    validation = file_of(tmp_path, "\n".join([line(QUESTION, ANSWER), *lines[4:6]]), "v.jsonl")
    with pytest.raises(DatasetInvalid, match="line 2: equal to line 5 of the training") as caught:
        read_dataset(training, validation, seed=0)
    assert ("validation_file", [2, 3]) == (
        caught.value.param, [item.number for item in caught.value.bad],
    )  # fmt: skip
    validation.write_text(line(QUESTION, ANSWER))
    data = read_dataset(training, validation, seed=0)
    assert (12, 1) == (len(data.train), len(data.validation))


@pytest.mark.parametrize(
    ("text", "validation", "says"),
    [
        (examples(9), None, "training_file: it has 9 examples"),
        ("", None, "training_file: it has 0 examples"),
        (examples(1) * 12, None, "all examples are equal"),
        (examples(12), "\n", "validation_file: it has no example"),
    ],
)
def test_too_few_examples_are_refused(
    tmp_path: Path, text: str, validation: str | None, says: str
) -> None:
    """Fewer than ten examples are refused."""
    held_out = None if validation is None else file_of(tmp_path, validation, "v.jsonl")
    with pytest.raises(DatasetInvalid, match=says):
        read_dataset(file_of(tmp_path, text), held_out, seed=0)
