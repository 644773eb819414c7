"""What training the base and training an adapter share: batches, a step's loss, the rate's shape.

Covered: right-padded batches in pieces of similar length, a loss on answers only; warm-up,
plateau, linear decay.
Not covered: evaluation, which pads on the left (`evaluate.py`).
"""

from random import Random

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from tests.lab.language import Draw
from tests.lab.tokenizer import encode_examples

IGNORED_LABEL = -100


def make_batch(
    tokenizer: PreTrainedTokenizerFast, draw: Draw, size: int, rng: Random, *, pieces: int
) -> list[tuple[Tensor, Tensor]]:
    """Token ids and labels of `size` examples, short ones first, cut into equal pieces.

    Each piece is as wide as its own longest example: less padding to compute than in one batch.
    """
    examples = encode_examples(tokenizer, [draw(rng, "train") for _ in range(size)])
    examples.sort(key=lambda pair: len(pair[0]) + len(pair[1]))
    height = size // pieces
    return [pad_right(examples[at : at + height]) for at in range(0, size, height)]


def pad_right(examples: list[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """Token ids and labels, both (examples, longest); labels are ignored outside answers.

    Attention is causal, so what follows an answer cannot change it: no mask, and any padding.
    """
    width = max(len(question) + len(answer) for question, answer in examples)
    tokens = torch.zeros((len(examples), width), dtype=torch.long)
    labels = torch.full((len(examples), width), IGNORED_LABEL)
    for row, (question, answer) in enumerate(examples):
        end = len(question) + len(answer)
        tokens[row, :end] = torch.tensor(question + answer)
        labels[row, len(question) : end] = torch.tensor(answer)
    return tokens, labels


def accumulate_gradients(model: nn.Module, batch: list[tuple[Tensor, Tensor]]) -> float:
    """Add the gradients of the mean loss per answer token over all pieces; return that loss."""
    answer_tokens = sum(int((labels != IGNORED_LABEL).sum()) for _, labels in batch)
    total = 0.0
    for tokens, labels in batch:
        # bfloat16 products are a tenth faster here; weights and their updates stay in float32.
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(
                input_ids=tokens, labels=labels, num_items_in_batch=answer_tokens, use_cache=False
            )
        output.loss.backward()
        total += output.loss.item()
    return total


def rate_factor(step: int, *, steps: int, warm_up: int) -> float:
    """The share of the learning rate at a step: rise, stay, fall over the second half."""
    rising = (step + 1) / warm_up
    falling = 2 * (steps - step) / steps
    return min(1.0, rising, falling)
