"""What training and marking a skill promise, on the tests' tiny base.

Covered: the loss, resuming, the stored files, marks with and without decoding.
Not covered: what the real base learns (`deploy/demo/skills`).
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer

from merge.peft_format import open_folder
from server.cli.demo_base import BASE_NAME
from tests.lab.merging.adapters import BASE, read_update
from tests.lab.skills import SKILLS
from tests.lab.skills.chat import IGNORED_LABEL, encode, make_batch
from tests.lab.skills.evaluate import Examiner, merged_update
from tests.lab.skills.skill import Example
from tests.lab.skills.train import (
    Plan,
    Training,
    add_adapter,
    answer_loss,
    common_length,
    load_base,
)
from tests.lab.train_adapters import save_adapter

PLAN = Plan(steps=4, batch_size=2, rank=2, warm_up=1, layers=(1, 3))
SKILL = SKILLS["spanish"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small products: a second thread waits more than it works."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_loss_is_of_answers_and_their_end_alone() -> None:
    """The loss is that of the plain model on the tokens of the answers and the end token, although
    what the prompts begin with is computed once."""
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    model = add_adapter(load_base(BASE), PLAN)
    examples = SKILL.examples("train", 3, seed=1)
    batch = make_batch(tokenizer, examples)

    loss = answer_loss(model, batch)

    expected, count = 0.0, 0
    for question, answer in (encode(tokenizer, example) for example in examples):
        logits = model(input_ids=torch.tensor([question + answer])).logits[0]
        at = slice(len(question) - 1, len(question) + len(answer) - 1)
        expected += cross_entropy(logits[at], torch.tensor(answer), reduction="sum").item()
        count += len(answer)
    assert common_length(batch.tokens) > 0
    assert count == int((batch.labels != IGNORED_LABEL).sum())
    assert loss.item() == pytest.approx(expected / count, rel=1e-5)


def test_a_training_goes_on_where_it_was(tmp_path: Path) -> None:
    """A training that was stopped after two of four steps gives the adapter of one that was not."""
    whole = Training(BASE, SKILL, PLAN, tmp_path / "whole")
    whole.run(lambda _: None)
    stopped = Training(BASE, SKILL, PLAN, tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        stopped.run(lambda course: interrupt(stopped, course.step))
    resumed = Training(BASE, SKILL, PLAN, tmp_path / "stopped")
    assert resumed.course.step == 2
    resumed.run(lambda _: None)

    assert resumed.course.step == 4
    assert all(
        torch.equal(one, other) for one, other in zip(whole.weights, resumed.weights, strict=True)
    )


def interrupt(training: Training, step: int) -> None:
    """Save after two steps and stop."""
    if step == 2:
        training.save()
        raise KeyboardInterrupt


def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path) -> None:
    """A changed plan does not go on from the old one's weights."""
    Training(BASE, SKILL, PLAN, tmp_path).save()

    with pytest.raises(ValueError, match="is of another plan: remove it to begin again"):
        Training(BASE, SKILL, replace(PLAN, rate=1.0), tmp_path)


def test_the_stored_adapter_is_what_weft_admits(tmp_path: Path) -> None:
    """The files name the base, hold bfloat16 factors of the plan's layers, and can be merged."""
    for name, seed in (("one", 1), ("two", 2)):
        model = add_adapter(load_base(BASE), replace(PLAN, seed=seed))
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:
                    weight.fill_(0.01 * seed)
        save_adapter(model, tmp_path / name, BASE_NAME)

    opened = open_folder(tmp_path / "one")
    updates = read_update(tmp_path / "one")
    merged = merged_update("cat", [tmp_path / "one", tmp_path / "two"], {})

    assert len(opened.modules) == 2 * 7
    assert {name.split(".")[2] for name in opened.modules} == {"1", "3"}
    assert merged.keys() == updates.keys()
    for name, update in updates.items():
        torch.testing.assert_close(merged[name], 5 * update, rtol=1e-2, atol=1e-6)


def test_marks_are_those_of_decoding() -> None:
    """An answer that one pass finds right is what greedy decoding writes; others are decoded and
    judged by the skill's program."""
    examiner = Examiner(BASE)
    asked = [Example(f"reverse upper: {text}", text[::-1].upper()) for text in ("abc", "defg")]
    wrong = [Example("reverse upper: abc", "no")]
    skill = replace(SKILL, compared="text")

    answers = examiner.answers({}, 1.0, skill, [*asked, *wrong])

    assert [answer.text for answer in answers] == ["CBA", "GFED", "CBA"]
    assert [answer.right for answer in answers] == [True, True, False]
    assert examiner._decoded(asked) == ["CBA", "GFED"]
    assert examiner._exact([*asked, *wrong]) == [True, True, False]
