"""Greedy answers for exact match. Not covered: answers of an engine (the caller's scorer)."""

from collections.abc import Sequence
from typing import Any

import torch

from merge.adaptive.scoring.examples import Example, grouped

# Tokens of a batch, questions, answers and padding: their key-value cache takes two gigabytes for
# an 8B base.
_TOKENS_AT_ONCE = 16384


@torch.inference_mode()
def answers(
    model: Any, tokenizer: Any, examples: Sequence[Example], *, longest: int
) -> tuple[str, ...]:
    """Return the greedy answer to each example's prompt, at most `longest` tokens of it."""
    results = [""] * len(examples)
    lengths = [len(example.prompt) + longest for example in examples]
    for group in grouped(lengths, _TOKENS_AT_ONCE):
        texts = _generate(model, tokenizer, [examples[at].prompt for at in group], longest)
        for at, text in zip(group, texts, strict=True):
            results[at] = text
    return tuple(results)


def _generate(
    model: Any, tokenizer: Any, prompts: Sequence[tuple[int, ...]], longest: int
) -> list[str]:
    from transformers import GenerationConfig

    device = next(model.parameters()).device
    width = max(map(len, prompts))
    tokens = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):  # padded on the left: generation continues the prompt
        tokens[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    end = tokenizer.eos_token_id
    own = getattr(model, "generation_config", None)
    ends = own.eos_token_id if own is not None and own.eos_token_id is not None else end
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
    greedy = GenerationConfig(
        do_sample=False, max_new_tokens=longest, eos_token_id=ends, pad_token_id=padding
    )
    written = model.generate(
        input_ids=tokens.to(device), attention_mask=mask.to(device), generation_config=greedy
    )
    texts: list[str] = tokenizer.batch_decode(written[:, width:], skip_special_tokens=True)
    return texts
