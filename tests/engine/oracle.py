"""The reference for answers: transformers and PEFT, greedy, float32, token for token."""

from pathlib import Path

import torch
from peft import PeftModel
from transformers import GenerationConfig, LlamaForCausalLM

from tests.engine.gateway import ADAPTERS, DEMO, END
from tests.lab.evaluate import load_adapters, load_base
from tests.lab.tokenizer import build_tokenizer, question


class Oracle:
    """The demo base with every demo adapter, as PEFT computes them."""

    def __init__(self) -> None:
        folders = [DEMO / "adapters" / name for name in ADAPTERS]
        self.model: PeftModel = load_adapters(load_base(DEMO / "base"), folders)

        self._answers: dict[tuple[str, ...], list[list[int]]] = {}

    def adapter_tokens(self, name: str, prompts: list[str]) -> list[list[int]]:
        """Return the token ids of one adapter's answers, without the end token.

        The answers are cached: every method's merge of one adapter is compared with them.
        """
        key = (name, *prompts)
        if key not in self._answers:
            self._answers[key] = self._generate(name, prompts)
        return self._answers[key]

    def _generate(self, name: str, prompts: list[str]) -> list[list[int]]:
        self.model.set_adapter(name)
        return generate(self.model, prompts)

    def base_tokens(self, prompts: list[str]) -> list[list[int]]:
        """Return the token ids of the base's own answers."""
        with self.model.disable_adapter():
            return generate(self.model, prompts)

    def cat_tokens(
        self, names: list[str], weights: list[float], prompts: list[str]
    ) -> list[list[int]]:
        """Return the token ids of the answers of PEFT's own exact sum of several adapters."""
        self.model.add_weighted_adapter(names, weights, "sum", combination_type="cat")
        try:
            return self._generate("sum", prompts)
        finally:
            self.model.set_adapter(names[0])
            self.model.delete_adapter("sum")


@torch.inference_mode()
def generate(model: PeftModel | LlamaForCausalLM, prompts: list[str]) -> list[list[int]]:
    """Return the token ids of greedy answers of at most 16 tokens."""
    tokenizer = build_tokenizer()
    batch = tokenizer([question(prompt) for prompt in prompts], padding=True, return_tensors="pt")
    greedy = GenerationConfig(
        do_sample=False, max_new_tokens=16, eos_token_id=END, pad_token_id=tokenizer.pad_token_id
    )
    rows = model.generate(**batch, generation_config=greedy)[:, batch["input_ids"].shape[1] :]
    return [_until_end(row.tolist()) for row in rows]


def _until_end(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(END)] if END in tokens else tokens


def folder_of(name: str) -> Path:
    """Return the folder of a demo adapter."""
    return DEMO / "adapters" / name
