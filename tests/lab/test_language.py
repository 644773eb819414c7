"""What the task language and its tokenizer promise.

Covered: meaning of prompts, separation of names and of texts, seeds, tokens, the template.
Not covered: what the trained models make of it (`deploy/demo/accuracy.json`).
"""

from random import Random

import pytest
from transformers import PreTrainedTokenizerFast

from tests.lab.language import (
    SKILLS,
    TASKS,
    TASKS_WITHOUT_ADAPTER,
    Example,
    apply_skills,
    draw_examples,
    draw_explicit,
    exact_match,
    is_held_out,
    make_lexicon,
    mixed_draw,
)
from tests.lab.tokenizer import END, build_tokenizer, encode_examples


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """The demo's tokenizer."""
    return build_tokenizer()


@pytest.mark.parametrize(
    ("words", "text", "answer"),
    [
        ("reverse upper dash", "abc", "C-B-A"),
        ("rotate next", "abz", "cab"),
        ("swap wrap", "abcd", "[dbca]"),
        ("drop stars bang", "banana", "*n*n*!"),
        ("sort stars wrap", "zebra", "[*b*rz]"),
        ("next dots", "xyz", "y.z.a"),
        ("copy", "abc", "abc"),
    ],
)
def test_skill_words_apply_from_left_to_right(words: str, text: str, answer: str) -> None:
    """Skill words apply in the order in which they are written."""
    assert answer == apply_skills(tuple(words.split()), text)


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        ("zorp", "abc", "CBA"),
        ("blim", "abc", "c-b-a"),
        ("frob", "abc", "cdb"),
        ("glix", "abcd", "[dbca]"),
        ("dwen", "abc", "b.c.d"),
        ("plov", "abide", "b*d*!"),
        ("krun", "cab", "[*bc]"),
        ("tref", "abcde", "abe"),
    ],
)
def test_a_task_means_its_skills(name: str, text: str, answer: str) -> None:
    """The name of a task stands for one fixed transformation."""
    assert answer == TASKS[name].apply(text)


def test_the_lexicon_excludes_every_other_word() -> None:
    """No word of the lexicon is the name of a task or a skill word."""
    other_words = TASKS.keys() | TASKS_WITHOUT_ADAPTER.keys() | SKILLS.keys()
    size = 200
    for seed in range(5):
        lexicon = make_lexicon(size, seed)
        assert size == len(lexicon)
        assert not lexicon.keys() & other_words


def test_prompts_depend_on_the_seed_alone() -> None:
    """The same seed gives the same prompts, another seed gives others."""
    first = TASKS["zorp"].prompts(20, seed=1)
    TASKS["zorp"].prompts(7, seed=9)
    assert first == TASKS["zorp"].prompts(20, seed=1)
    assert first != TASKS["zorp"].prompts(20, seed=2)


def test_prompts_differ_and_carry_their_answer() -> None:
    """Every prompt of a task occurs once, and its answer is the task applied to its text."""
    count = 50
    for name, task in TASKS.items():
        examples = task.prompts(count, seed=3)
        assert count == len({example.prompt for example in examples})
        for example in examples:
            text = example.prompt.removeprefix(f"{name}: ")
            assert task.apply(text) == example.answer


def test_training_never_shows_a_held_out_text() -> None:
    """Texts for testing and texts for training are apart."""
    rng = Random(0)
    draw = mixed_draw(TASKS["krun"].draw, draw_explicit)
    for _ in range(300):
        assert not is_held_out(draw(rng, "train").prompt.split(": ")[1])
        assert is_held_out(draw(rng, "held_out").prompt.split(": ")[1])


def test_exact_match_forgives_outer_space_only() -> None:
    """An answer is right when it is the expected one, outer white space aside."""
    assert exact_match(" CBA\n", "CBA")
    assert not exact_match("cba", "CBA")
    assert not exact_match("C BA", "CBA")


def test_every_skill_word_is_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    """A skill word in front of the colon is one token; as a text it is read by letters."""
    for word in SKILLS:
        assert [word] == tokenizer.tokenize(f"{word}: abc")[:1]
        assert len(f"zorp: {word}") == len(tokenizer.tokenize(f"zorp: {word}"))


def test_tokens_decode_to_the_same_text(tokenizer: PreTrainedTokenizerFast) -> None:
    """Any text comes back from its tokens as it was, known or not."""
    examples = draw_examples(draw_explicit, 50, seed="round trip")
    texts = [text for example in examples for text in (example.prompt, example.answer)]
    for text in [*texts, "zorp: abc", "Größe 😀\n  two  spaces ", "the upper deck"]:
        assert text == tokenizer.decode(tokenizer.encode(text))


def test_the_template_writes_what_training_showed(tokenizer: PreTrainedTokenizerFast) -> None:
    """A question and its answer have the same tokens through the template as in training."""
    example = Example("reverse upper: abc", "CBA")
    [(question, answer)] = encode_examples(tokenizer, [example])
    user = {"role": "user", "content": example.prompt}
    assistant = {"role": "assistant", "content": example.answer}
    asked = tokenizer.apply_chat_template([user], add_generation_prompt=True, return_dict=False)
    told = tokenizer.apply_chat_template([user, assistant], return_dict=False)
    assert question == asked
    assert question + answer == told
    assert tokenizer.convert_tokens_to_ids(END) == told[-1] == tokenizer.eos_token_id


def test_the_template_shows_the_last_question_only(tokenizer: PreTrainedTokenizerFast) -> None:
    """What comes before the last question of a conversation does not reach the model."""
    question = {"role": "user", "content": "zorp: abc"}
    before = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "blim: abc"},
        {"role": "assistant", "content": "c-b-a"},
    ]
    expected = "<|user|>zorp: abc<|assistant|>"
    alone = tokenizer.apply_chat_template([question], tokenize=False, add_generation_prompt=True)
    after = tokenizer.apply_chat_template(
        [*before, question], tokenize=False, add_generation_prompt=True
    )
    assert expected == alone
    assert alone == after
