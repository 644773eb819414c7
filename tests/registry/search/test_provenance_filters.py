"""Filters on what a config states about the training: PEFT's release and the dropout."""

from pathlib import Path

from registry.service import Registry
from tests.registry.conftest import tensors, write_adapter

STATED: dict[str, dict[str, object]] = {
    "old": {"peft_version": "0.17.1", "lora_dropout": 0.1},
    "new": {"peft_version": "0.18.0", "lora_dropout": 0.05},
    "newest": {"peft_version": "0.18.1.dev0", "lora_dropout": 0.0},
    "silent": {},
}
FILTERS = {
    "peft_version=0.18": ["new", "newest"], "peft_version=0.18.0": ["new"],
    "peft_version=0.1": [], "peft_version!=0.18": ["old", "silent"],
    "lora_dropout=0.1": ["old"], "lora_dropout<=0.05": ["new", "newest"],
    "lora_dropout>0": ["new", "old"], "lora_dropout!=0": ["new", "old", "silent"],
}  # fmt: skip


def test_versions_are_found_by_what_their_config_states(registry: Registry, tmp_path: Path) -> None:
    """A release matches all releases with its prefix; a missing value equals nothing."""
    for seed, (name, stated) in enumerate(STATED.items()):
        folder = write_adapter(tmp_path / name, tensors(seed=seed), **stated)
        registry.adapters.register(folder, name=name)
    found = {
        text: [
            hit.reference.partition("@")[0] for hit in registry.search.finder.search(filter=text)
        ]
        for text in FILTERS
    }
    assert FILTERS == {text: sorted(names) for text, names in found.items()}
