"""The probe measures the effect of an adapter: its logits are those of PEFT."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from merge.adaptive.model.hooks import attached
from merge.adaptive.model.stacked import updates_of
from merge.peft_format import open_folder
from merge.peft_io import read_peft
from server.probe.measure import TOKENS_PER_PROMPT, Probe
from server.probe.prompts import PROMPTS
from tests.adapters import make_adapter, write_folder
from tests.server.conftest import DEMO

Shapes = dict[str, tuple[int, int]]


@pytest.fixture(scope="module")
def base() -> Any:
    """The demo base, shared because `attached` restores it."""
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(DEMO / "base", dtype="float32").eval()


@pytest.fixture(scope="module")
def probe(base: Any) -> Probe:
    """A probe whose base logits are computed."""
    return Probe(base, AutoTokenizer.from_pretrained(DEMO / "base"))


@pytest.fixture(scope="module")
def shapes(base: Any) -> Shapes:
    """(d_in, d_out) of two linear layers of the demo base."""
    names = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj")
    layers = {name: base.get_submodule(name) for name in names}
    return {name: (layer.in_features, layer.out_features) for name, layer in layers.items()}


def logits(model: Any) -> torch.Tensor:
    """Return the logits of a few tokens."""
    with torch.inference_mode():
        out: torch.Tensor = model(torch.tensor([[1, 5, 9, 2, 7, 11, 3, 4]])).logits
    return out


@pytest.mark.parametrize("name", ["zorp", "glix"])
def test_hooks_give_the_logits_of_peft(base: Any, name: str) -> None:
    """Hooks give PEFT's logits up to rounding, and the base is unchanged afterwards."""
    before, folder = logits(base), DEMO / "adapters" / name
    with attached(base, updates_of(open_folder(folder))):
        found = logits(base)
    assert torch.equal(before, logits(base))
    fresh = AutoModelForCausalLM.from_pretrained(DEMO / "base", dtype="float32").eval()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(missing|unexpected).*keys.*")
        expected = logits(PeftModel.from_pretrained(fresh, folder).eval())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found - before).abs().max() > 0.01


def test_an_embedding_s_update_is_that_of_its_rows(base: Any, tmp_path: Path) -> None:
    """An update of an embedding equals adding B A to its table."""
    vocabulary, width = base.get_input_embeddings().weight.shape
    generator = torch.Generator().manual_seed(0)
    a = torch.randn((4, vocabulary), generator=generator) * 0.1
    b = torch.randn((width, 4), generator=generator) * 0.1
    prefix = "base_model.model.model.embed_tokens.lora_embedding_"
    write_folder(tmp_path, {f"{prefix}A": a, f"{prefix}B": b})
    folder = open_folder(tmp_path)
    factors = read_peft(folder, folder.modules["model.embed_tokens"])
    with attached(base, updates_of(folder)):
        found = logits(base)
    # The head shares the table where the two are tied: only what is looked up may change.
    token_ids = torch.tensor([[1, 5, 9, 2, 7, 11, 3, 4]])
    rows = base.get_input_embeddings().weight[token_ids]
    rows = rows + factors.scale * (factors.b @ factors.a).T[token_ids]
    with torch.inference_mode():
        expected = base(inputs_embeds=rows).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_trained_adapter_has_an_effect_and_a_signature(probe: Probe) -> None:
    """A trained adapter has a positive divergence and a finite float32 signature of fixed
    length.
    """
    one = probe.measure(DEMO / "adapters" / "zorp")
    assert one.effect is not None
    assert one.signature is not None
    assert one.effect > 0.01
    assert len(PROMPTS) * TOKENS_PER_PROMPT == len(one.signature) <= 2000
    assert "float32" == one.signature.dtype
    again = probe.measure(DEMO / "adapters" / "zorp")
    assert (one.signature == again.signature).all()


def test_signatures_tell_adapters_apart(probe: Probe) -> None:
    """Different adapters have distant signatures; one adapter at half strength has a near one."""
    one = probe.measure(DEMO / "adapters" / "zorp").signature
    other = probe.measure(DEMO / "adapters" / "glix").signature
    assert one is not None
    assert other is not None
    cosine = one @ other / ((one @ one) * (other @ other)) ** 0.5
    assert cosine < 0.95


def test_the_effect_is_the_divergence_of_the_definition(
    base: Any, probe: Probe, shapes: Shapes, tmp_path: Path
) -> None:
    """The effect equals the mean KL(base ‖ adapter), computed per prompt, unpadded, in float64."""
    folder = make_adapter(tmp_path / "a", modules=shapes)
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "base")
    total, count = 0.0, 0
    for text in PROMPTS:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.inference_mode():
            plain = base(ids).logits.double().log_softmax(-1)
            with attached(base, updates_of(open_folder(folder))):
                changed = base(ids).logits.double().log_softmax(-1)
        total += float((plain.exp() * (plain - changed)).sum())
        count += ids.shape[1]
    assert probe.measure(folder).effect == pytest.approx(total / count, rel=1e-3)


def test_an_adapter_without_effect_measures_zero(
    probe: Probe, shapes: Shapes, tmp_path: Path
) -> None:
    """A zero update measures exactly zero."""
    one = probe.measure(make_adapter(tmp_path / "a", modules=shapes, size=0.0))
    assert 0.0 == one.effect
    assert one.signature is not None
    assert not one.signature.any()


def test_an_adapter_that_overflows_is_found(probe: Probe, shapes: Shapes, tmp_path: Path) -> None:
    """Logits that are not finite give no signature."""
    one = probe.measure(make_adapter(tmp_path / "a", modules=shapes, size=1e30))
    assert one.effect is None
    assert one.signature is None
