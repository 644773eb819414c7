"""Adapters of a base whose embedding and output head share one weight."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from merge.factors import Factors
from merge.peft_format import open_folder
from merge.peft_io import read_peft, write_peft
from tests.adapters import BASE
from tests.merge.merge_setup import MergeSetup

HEAD, EMBEDDING = "lm_head", "model.embed_tokens"


def tied_by_peft(path: Path, seed: int, rank: int) -> Path:
    """Write an adapter that PEFT made with `ensure_weight_tying`, with random tensors."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        vocab_size=32, tie_word_embeddings=True,
    )  # fmt: skip
    lora = LoraConfig(
        r=rank, target_modules=["embed_tokens", "q_proj"], ensure_weight_tying=True,
        base_model_name_or_path=BASE,
    )  # fmt: skip
    model: Any = get_peft_model(LlamaForCausalLM(config), lora)
    for name, x in model.named_parameters():
        if "lora" in name:
            torch.nn.init.normal_(x)
    model.peft_config["default"].base_model_name_or_path = BASE
    model.save_pretrained(path, save_embedding_layers=False)
    return path


def updates(path: Path) -> dict[str, torch.Tensor]:
    """Return the updates of a folder's head and embedding, float64."""
    folder = open_folder(path)
    read = {name: read_peft(folder, folder.modules[name]) for name in (HEAD, EMBEDDING)}
    return {name: f.scale * f.b.double() @ f.a.double() for name, f in read.items()}


@pytest.mark.parametrize("method", ["cat", "lego", "dare_linear", "della", "ties", "random"])
def test_tied_updates_stay_tied(tmp_path: Path, method: str) -> None:
    """Where every ingredient ties head and embedding, the merged head is the embedding's transpose,
    bit for bit, for every method, with its draws and ranks.
    """
    paths = [tied_by_peft(tmp_path / "a", 1, 4), tied_by_peft(tmp_path / "b", 2, 2)]
    before = updates(paths[0])
    assert torch.equal(before[HEAD], before[EMBEDDING].mT)
    setup = MergeSetup(tmp_path, paths, [1.0, -0.5])
    report = setup.merge(setup.recipe(method))
    merged = open_folder(tmp_path / "out").modules
    folder = open_folder(tmp_path / "out")
    head, embedding = read_peft(folder, merged[HEAD]), read_peft(folder, merged[EMBEDDING])
    assert torch.equal(head.a, embedding.b.mT)
    assert torch.equal(head.b, embedding.a.mT)
    assert float(head.a.abs().sum()) > 0.0
    assert () == report.notes


def test_a_tie_that_is_lost_is_told(tmp_path: Path) -> None:
    """Where an ingredient's head has an update of its own, or other weights, head and embedding are
    merged separately, and the report notes it.
    """
    tied = tied_by_peft(tmp_path / "a", 1, 4)
    generator = torch.Generator().manual_seed(5)

    def drawn(d_in: int, d_out: int) -> Factors:
        a, b = (torch.randn(shape, generator=generator) for shape in ((2, d_in), (d_out, 2)))
        return Factors(a, b)

    write_peft(
        tmp_path / "b", {HEAD: drawn(16, 32), EMBEDDING: drawn(32, 16)},
        kinds={EMBEDDING: "embedding"}, base=BASE,
    )  # fmt: skip
    setup = MergeSetup(tmp_path, [tied, tmp_path / "b"], [1.0, 0.5])
    report = setup.merge(setup.recipe("cat"))
    (note,) = report.notes
    assert f"{HEAD} and {EMBEDDING} have one update in 1 of 2 ingredients" in note
    assert note in (tmp_path / "out" / "report.json").read_text()
    merged = updates(tmp_path / "out")
    expected = updates(tied)[HEAD] + 0.5 * updates(tmp_path / "b")[HEAD]
    torch.testing.assert_close(expected, merged[HEAD], rtol=1e-5, atol=1e-5)


def test_untied_heads_and_embeddings_are_not_told(tmp_path: Path) -> None:
    """The report has no notes if no ingredient ties its head and embedding."""
    a, b = torch.ones(2, 16), torch.ones(32, 2)
    modules = {HEAD: Factors(a, b), EMBEDDING: Factors(2 * b.mT, a.mT)}
    write_peft(tmp_path / "a", modules, kinds={EMBEDDING: "embedding"}, base=BASE)
    setup = MergeSetup(tmp_path, [tmp_path / "a"], [1.0])
    report = setup.merge(setup.recipe("cat"))
    assert () == report.notes
    assert '"notes"' not in (tmp_path / "out" / "report.json").read_text()
