"""Examples as token ids, through the chat template of the base, without a system message."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tests.lab.skills.skill import Example

IGNORED_LABEL = -100


@dataclass(frozen=True, slots=True)
class Batch:
    """Token ids padded on the right, and what follows each; padding and questions are ignored."""

    tokens: Tensor
    labels: Tensor


def question_text(tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    """What the template makes of one user message, up to where the answer begins."""
    message = {"role": "user", "content": prompt}
    text: str = tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    return text


def encode(tokenizer: PreTrainedTokenizerBase, example: Example) -> tuple[list[int], list[int]]:
    """Token ids of the question, and of the answer with the token that ends it."""
    question = tokenizer(question_text(tokenizer, example.prompt), add_special_tokens=False)
    answer = tokenizer(example.answer, add_special_tokens=False)
    return question["input_ids"], [*answer["input_ids"], tokenizer.eos_token_id]


def make_batch(tokenizer: PreTrainedTokenizerBase, examples: list[Example]) -> Batch:
    """A batch as wide as its longest example.

    Attention is causal, so padding on the right changes nothing before it: no mask is needed.
    """
    encoded = [encode(tokenizer, example) for example in examples]
    width = max(len(question) + len(answer) for question, answer in encoded) - 1
    tokens = torch.zeros((len(encoded), width), dtype=torch.long)
    labels = torch.full((len(encoded), width), IGNORED_LABEL)
    for row, (question, answer) in enumerate(encoded):
        ids = torch.tensor(question + answer)
        tokens[row, : len(ids) - 1] = ids[:-1]
        labels[row, len(question) - 1 : len(ids) - 1] = ids[len(question) :]
    return Batch(tokens, labels)
