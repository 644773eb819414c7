"""From conversations to tokens, and to greedy answers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from merge.adaptive.model.base import load_base, load_tokenizer
from merge.adaptive.scoring.examples import (
    IGNORED,
    ExampleInvalid,
    Message,
    dump_examples,
    encode,
    encode_all,
    grouped,
    load_examples,
)
from merge.adaptive.scoring.generation import answers
from merge.adaptive.scoring.losses import measure_losses
from tests.lab.language import Example

DEMO = Path(__file__).parents[4] / "deploy" / "demo"
# The demo's own template shows only the last question; this one shows the whole conversation.
WHOLE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{% if m.role == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture
def tokenizer() -> Any:
    """The demo's tokenizer, loaded for each test."""
    return load_tokenizer(str(DEMO / "base"))


def chat(*texts: str) -> list[Message]:
    """Return a conversation in which user and assistant alternate."""
    roles = ("user", "assistant")
    return [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]


def learned(tokenizer: Any, labels: tuple[int, ...]) -> str:
    """Return the text of the labels that count in the loss."""
    return str(tokenizer.decode([label for label in labels if label != IGNORED]))


def test_the_assistants_tokens_count_and_no_others(tokenizer: Any) -> None:
    """The answer and its end token are learned; the question is the prompt."""
    example = encode(tokenizer, chat("copy: abc", "abc"), longest=50)

    assert "abc<|end|>" == learned(tokenizer, example.labels)
    assert "<|user|>copy: abc<|assistant|>" == tokenizer.decode(example.prompt)
    assert example.tokens[: len(example.prompt)] == example.prompt
    assert "abc" == example.answer


def test_every_turn_of_the_assistant_counts(tokenizer: Any) -> None:
    """Earlier answers are learned too, if the template shows them unchanged."""
    tokenizer.chat_template = WHOLE
    example = encode(tokenizer, chat("copy: ab", "ab", "copy: cd", "cd"), longest=50)

    assert "ab<|end|>cd<|end|>" == learned(tokenizer, example.labels)
    assert tokenizer.decode(example.prompt).endswith("<|user|>copy: cd<|assistant|>")


@pytest.mark.parametrize(
    ("messages", "longest", "said"),
    [
        (chat("copy: abc"), 50, "the last message must be the assistant's"),
        ([], 50, "the last message must be the assistant's"),
        (chat("copy: abc", "abc"), 5, r"\d+ tokens, the limit is 5: shorten it"),
    ],
)
def test_what_cannot_be_learned_is_refused(
    tokenizer: Any, messages: list[Message], longest: int, said: str
) -> None:
    """A conversation without an answer, or longer than the limit, is refused."""
    with pytest.raises(ExampleInvalid, match=said):
        encode(tokenizer, messages, longest=longest)


def test_a_template_that_hides_the_answer_is_refused(tokenizer: Any) -> None:
    """A template that does not write the answer after the question is refused."""
    tokenizer.chat_template = "{% if add_generation_prompt %}<|assistant|>{% else %}x{% endif %}"
    with pytest.raises(ExampleInvalid, match="does not write the answer after the question"):
        encode(tokenizer, chat("a", "b"), longest=50)


def test_all_bad_examples_are_named_at_once(tokenizer: Any) -> None:
    """One error names all invalid examples by number, the first few with their reasons."""
    with pytest.raises(ExampleInvalid, match=r"number 2, .*number 3, ") as caught:
        encode_all(tokenizer, [chat("a", "b"), chat("c"), chat("d")], longest=50)

    assert "number 1," not in str(caught.value)


def test_examples_read_back(tokenizer: Any) -> None:
    """Examples that are dumped to JSON load back unchanged."""
    found = encode_all(tokenizer, [chat("a", "b"), chat("c", "d")], longest=50)

    assert found == load_examples(dump_examples(found))


def test_groups_fit() -> None:
    """Groups are sorted by length, fit the token limit and contain every example once."""
    groups = grouped([5, 1, 9, 3, 3, 50], 12)

    assert list(range(6)) == sorted(at for group in groups for at in group)
    assert [[1, 3, 4], [0], [2], [5]] == groups


def test_company_changes_nothing(tokenizer: Any) -> None:
    """In a batch of different lengths, each example has the loss and the greedy answer that it has
    alone: padding does not count."""
    model = load_base(str(DEMO / "base"), torch.device("cpu"))
    asked = [Example("reverse: abcdefg", "gfedcba"), Example("copy: abc", "abc"),
             Example("upper dash: xyz", "X-Y-Z")]  # fmt: skip
    examples = [encode(tokenizer, chat(e.prompt, e.answer), longest=60) for e in asked]

    together = measure_losses(model, examples)
    apart = [measure_losses(model, [each]) for each in examples]
    said = answers(model, tokenizer, examples, longest=12)

    assert together.nll == pytest.approx([each.nll[0] for each in apart], abs=1e-4)
    assert said == tuple(answers(model, tokenizer, [e], longest=12)[0] for e in examples)
    assert tuple(e.answer for e in asked) == said
