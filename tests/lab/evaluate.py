"""How often the stored models answer right: greedy decoding with transformers and PEFT.

Covered: the base and the adapters exactly as stored, computed in float32; exact sums of two.
Not covered: the same through vLLM, which the engine tests compare with this.
"""

from itertools import combinations
from pathlib import Path

import torch
from peft import PeftModel
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedModel

from tests.lab.language import Example, exact_match
from tests.lab.tokenizer import build_tokenizer, question

LONGEST_ANSWER = 16


def load_base(folder: Path) -> LlamaForCausalLM:
    """The stored base in float32."""
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def load_adapters(base: LlamaForCausalLM, folders: list[Path]) -> PeftModel:
    """The stored adapters on the base, each under the name of its folder, the first active."""
    first, *others = folders
    model = PeftModel.from_pretrained(base, first, adapter_name=first.name)
    for folder in others:
        model.load_adapter(folder, adapter_name=folder.name)
    return model.eval()


@torch.inference_mode()
def answer_prompts(model: PreTrainedModel | PeftModel, prompts: list[str]) -> list[str]:
    """Greedy answers to all prompts, decoded as one batch."""
    tokenizer = build_tokenizer()
    batch = tokenizer([question(prompt) for prompt in prompts], padding=True, return_tensors="pt")
    greedy = GenerationConfig(
        do_sample=False,
        max_new_tokens=LONGEST_ANSWER,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    tokens = model.generate(**batch, generation_config=greedy)
    answers = tokens[:, batch["input_ids"].shape[1] :]
    decoded: list[str] = tokenizer.batch_decode(answers, skip_special_tokens=True)
    return decoded


def accuracy(model: PreTrainedModel | PeftModel, examples: list[Example]) -> float:
    """The share of examples answered exactly."""
    answers = answer_prompts(model, [example.prompt for example in examples])
    right = [
        exact_match(answer, example.answer)
        for answer, example in zip(answers, examples, strict=True)
    ]
    return sum(right) / len(examples)


def sum_accuracies(
    model: PeftModel, examples: dict[str, list[Example]]
) -> dict[str, dict[str, float]]:
    """For each two adapters, the accuracy of their exact sum on the task of each."""
    scores = {}
    for pair in combinations(examples, 2):
        name = "+".join(pair)
        # Stacking the factors is the sum itself: nothing is rounded or left out.
        model.add_weighted_adapter(list(pair), [1.0, 1.0], name, combination_type="cat")
        model.set_adapter(name)
        scores[name] = {task: accuracy(model, examples[task]) for task in pair}
        model.set_adapter(pair[0])  # PEFT warns when the active adapter is deleted
        model.delete_adapter(name)
    return scores
