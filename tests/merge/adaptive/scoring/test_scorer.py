"""Scores of candidates: matches, figures, and the scorer that runs a model in torch."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from merge.adaptive.model.hooks import Updates, freeze
from merge.adaptive.model.stacked import stack, updates_of
from merge.adaptive.scoring.bootstrap import bootstrap, share
from merge.adaptive.scoring.examples import IGNORED, Example
from merge.adaptive.scoring.losses import WORST, Losses, measure_losses
from merge.adaptive.scoring.scored import Figures, Scored, figures
from merge.adaptive.scoring.scorer import TorchScorer, compare_answers
from merge.factors import Factors
from merge.peft_format import open_folder
from tests.adapters import make_adapter
from tests.merge.adaptive.small import random_examples
from tests.merge.llama import tiny_llama

SCORED = Scored((2.0, 9.0, 4.0), (1, 3, 2), (True, False, True), None)


class Letters:
    """A tokenizer whose tokens are letters; the tiny Llama has no end of text."""

    eos_token_id, pad_token_id = 31, 0

    def batch_decode(self, rows: torch.Tensor, **_: bool) -> list[str]:
        """Return one letter for each token."""
        return ["".join(chr(64 + token) for token in row) for row in rows.tolist()]


def scorer(pattern: str | None = None) -> TorchScorer:
    """Return a scorer that generates answers of five tokens with the tiny Llama."""
    return TorchScorer(freeze(tiny_llama()), Letters(), pattern=pattern, longest_answer=5)


def plain_nll(model: Any, example: Example) -> float:
    """Return the answer's negative log-likelihood, computed alone and in float64."""
    with torch.no_grad():
        logs = model(torch.tensor([example.tokens])).logits[0].double().log_softmax(-1)
    counted = [at for at, label in enumerate(example.labels) if label != IGNORED]
    return -math.fsum(float(logs[at - 1, example.tokens[at]]) for at in counted)


def test_losses_are_each_examples_own() -> None:
    """In a padded batch each example has the loss that it has alone, and the order is kept."""
    examples = random_examples(9, seed=3)
    model = freeze(tiny_llama())
    losses = measure_losses(model, examples)

    assert [plain_nll(model, each) for each in examples] == pytest.approx(losses.nll, rel=1e-5)
    assert tuple(sum(x != IGNORED for x in each.labels) for each in examples) == losses.tokens
    assert losses.mean == pytest.approx(sum(losses.nll) / sum(losses.tokens))


def test_questions_need_no_logits() -> None:
    """Logits are computed only where some example of a batch has a token of an answer."""
    examples = random_examples(4, seed=3)
    model, widths = freeze(tiny_llama()), list[int]()
    model.lm_head.register_forward_hook(lambda *args: widths.append(args[-1].shape[1]))
    measure_losses(model, examples)

    places = {at for each in examples for at, x in enumerate(each.labels) if x != IGNORED}
    assert [len(places)] == widths
    assert len(places) < max(len(each.tokens) for each in examples) - 1


def test_a_loss_that_is_not_finite_is_the_worst() -> None:
    """An update with NaN gives its examples the worst loss, which is finite and can be ranked."""
    bad = Factors(torch.full((1, 16), math.nan), torch.ones(16, 1))
    layers, _ = stack([{"model.layers.0.self_attn.q_proj": bad}])
    losses = scorer().losses(Updates(layers), random_examples(3, seed=3))

    assert tuple(WORST * tokens for tokens in losses.tokens) == losses.nll
    assert WORST == losses.mean


def test_updates_count_for_their_call_only(tmp_path: Path) -> None:
    """An update changes the losses of its own call only; afterwards the base has its old losses."""
    updates = updates_of(open_folder(make_adapter(tmp_path / "a", seed=1)))
    ask, examples = scorer(), random_examples(4, seed=3)
    base, with_updates = ask.losses(None, examples), ask.losses(updates, examples)

    assert base != with_updates
    assert base == ask.losses(None, examples)
    assert with_updates.nll == ask.score(updates, examples).nll


def test_a_score_marks_what_the_model_says() -> None:
    """Exact match compares greedy answers with expected ones; a pattern compares its matches."""
    (example,) = random_examples(1, seed=3)
    tokens = freeze(tiny_llama()).generate(
        torch.tensor([example.prompt]), max_new_tokens=5, do_sample=False, pad_token_id=0
    )[:, len(example.prompt) :]
    (text,) = Letters().batch_decode(tokens)
    right, wrong = replace(example, answer=f"{text}."), replace(example, answer=f"x{text}")

    assert ((True, False), None) == scorer().score(None, [right, wrong])[2:]
    assert (True, False) == scorer("^.").score(None, [right, wrong]).pattern_match
    assert (True, True) == scorer(".$").score(
        None, [replace(right, answer=text), wrong]
    ).pattern_match


def test_marks_are_in_the_examples_order() -> None:
    """Each answer is compared with its own example."""
    examples = [Example((1, 2), (IGNORED, 2), (1,), text) for text in ("Yes.", "no", "7 apples")]
    losses = Losses((1.0, 2.0, 3.0), (1, 1, 1))
    scored = compare_answers(losses, ["yes", "yes", "I have 7"], examples, r"\d+")

    assert (True, False, False) == scored.exact_match
    assert (True, True, True) == scored.pattern_match
    assert losses == (scored.nll, scored.tokens)


def test_accuracy_is_the_patterns_where_there_is_one() -> None:
    """Accuracy is the share of pattern matches, or of exact matches if there is no pattern."""
    assert SCORED.accuracy == pytest.approx(2 / 3)
    assert SCORED._replace(pattern_match=(False, False, True)).accuracy == pytest.approx(1 / 3)
    assert 15 / 6 == SCORED.loss


def test_figures_have_intervals() -> None:
    """The loss is in nats per token with a bootstrap interval, matches are shares with Wilson's,
    and a pattern not given is null."""
    found = figures(SCORED, seed=5)

    assert bootstrap([2.0, 9.0, 4.0], weights=[1, 3, 2], seed=5) == found.loss
    assert share([True, False, True]) == found.exact_match
    assert found.pattern is None
    told = found.to_json()
    assert {"value": 2.5, "low": found.loss.low, "high": found.loss.high} == told["loss"]
    assert told["pattern"] is None
    assert list(Figures._fields) == list(told)
    assert (
        0.0
        == figures(SCORED._replace(pattern_match=(False,) * 3), seed=5).to_json()["pattern"][
            "value"
        ]
    )
