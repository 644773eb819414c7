"""The demo's real base: its skills and their sum answer as transformers and PEFT do."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from server.cli.demo import ask
from server.cli.demo_base import BASE_NAME, demo_base
from server.cli.demo_skills import (
    ASSETS,
    AUTO,
    AUTO_PROMPTS,
    PROMPTS_EACH,
    Reply,
    Task,
    present_skills,
    read_tasks,
)
from tests.engine.gateway import Weft

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
PARTS = ("mask", "iso")
SUM = f"cat({', '.join(PARTS)})"
PROMPTS, TOKENS = 5, 64


class Reference:
    """The base with both adapters and their sum, as PEFT computes them in float32."""

    def __init__(self, base: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        first, *others = PARTS
        self.model = PeftModel.from_pretrained(model, ASSETS / first, adapter_name=first)
        for name in others:
            self.model.load_adapter(ASSETS / name, adapter_name=name)
        self.model.add_weighted_adapter(list(PARTS), [1.0, 1.0], SUM, combination_type="cat")
        self.model.eval()

    @torch.inference_mode()
    def tokens(self, adapter: str, prompt: str) -> Sequence[int]:
        """Return the tokens of a greedy answer, without the end token."""
        self.model.set_adapter(adapter)
        messages = [{"role": "user", "content": prompt}]
        asked = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        end = self.tokenizer.eos_token_id
        greedy = GenerationConfig(
            do_sample=False, max_new_tokens=TOKENS, eos_token_id=end, pad_token_id=end
        )
        row = self.model.generate(**asked, generation_config=greedy)[0]
        return [token for token in row[asked["input_ids"].shape[1] :].tolist() if token != end]


async def test_skills_and_their_sum_answer_as_peft_does(weft: Weft) -> None:
    """Two adapters and one composition answer held-out prompts token for token, greedy, in
    float32."""
    reference = Reference(demo_base())
    end = reference.tokenizer.eos_token_id
    questions = {task.name: task.questions for task in read_tasks()}
    asked = [
        (model, prompt)
        for model, skill in (*zip(PARTS, PARTS, strict=True), (SUM, "+".join(PARTS)))
        for prompt, _ in questions[skill][:PROMPTS]
    ]
    more = {"max_tokens": TOKENS, "return_token_ids": True}
    async with weft.http() as http:
        answers = [await weft.complete(http, model, prompt, **more) for model, prompt in asked]
    for (model, prompt), answer in zip(asked, answers, strict=True):
        served = [token for token in answer["choices"][0]["token_ids"] if token != end]
        assert reference.tokens(model, prompt) == served, (model, prompt)


async def test_the_demo_shows_what_merges_add(weft: Weft) -> None:
    """Every skill answers its own prompt right and every merge those of two skills, the base and
    the parts none of them, and `auto()` chooses the right skill for ten prompts."""
    tasks = read_tasks()
    asked: dict[tuple[str, str], Reply] = {}
    async with weft.openai() as client:

        async def record(model: str, prompt: str, longest: int) -> Reply:
            asked[model, prompt] = reply = await ask(client, model, prompt, longest)
            return reply

        await present_skills(record, tasks)

    def right(task: Task, model: str, count: int) -> int:
        return sum(
            task.right(asked[model, prompt].text, expected)
            for prompt, expected in task.questions[:count]
        )

    skills = [task for task in tasks if len(task.parts) == 1]
    composed = [task for task in tasks if len(task.parts) > 1]
    assert not any(right(task, BASE_NAME, 1) for task in skills)
    assert [right(task, task.model, 1) for task in skills] == [1] * len(skills)
    assert not any(right(task, part, PROMPTS_EACH) for task in composed for part in task.parts)
    assert {right(task, task.model, PROMPTS_EACH) for task in composed} == {PROMPTS_EACH}
    chosen = {prompt: reply.chosen for (model, prompt), reply in asked.items() if model == AUTO}
    own = {prompt: task.name for task in skills for prompt, _ in task.questions}
    assert len(chosen) == AUTO_PROMPTS
    assert all(skill.startswith(f"{own[prompt]}@") for prompt, skill in chosen.items())
