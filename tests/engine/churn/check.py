"""What must hold after the churn: every answer, every artifact, every file, every row."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from registry.storage.blobs import LocalBlobs
from server.settings import Settings
from tests.engine.gateway import BASE
from tests.engine.oracle import Oracle
from tests.lab.tokenizer import build_tokenizer, question

# Logits of vLLM and of transformers differ by about 1e-5; closer than this is a tie.
TIE = 1e-3


class Reference:
    """transformers and PEFT: whether an answer is greedy for the files of its digest."""

    def __init__(self, oracle: Oracle | None = None) -> None:
        self._model = (oracle or Oracle()).model
        self._tokenizer = build_tokenizer()

    def wrong(self, digest: str, folder: Path, answers: Mapping[str, Iterable[tuple[int, ...]]]
              ) -> list[str]:  # fmt: skip
        """Return a sentence for each answer that is not the greedy one.

        Args:
            digest: of the adapter; the base's name for the base.
            folder: the adapter's files; not read for the base.
            answers: the token ids by prompt.
        """
        rows = [(prompt, tokens) for prompt, many in answers.items() for tokens in many]
        if digest == BASE:
            with self._model.disable_adapter():
                gaps = self._gaps(rows)
        else:
            self._model.load_adapter(folder, adapter_name=digest)
            self._model.set_adapter(digest)
            gaps = self._gaps(rows)
            self._model.set_adapter("zorp")
            self._model.delete_adapter(digest)
        return [
            f"{digest[:12]} answered {prompt!r} with {list(tokens)}: {gap:.4f} below the best"
            for (prompt, tokens), gap in zip(rows, gaps, strict=True)
            if gap > TIE
        ]

    @torch.inference_mode()
    def _gaps(self, rows: list[tuple[str, tuple[int, ...]]]) -> list[float]:
        """Return by how much the logit of an answer's token is below the best one, at most."""
        asked = [self._tokenizer(question(prompt))["input_ids"] for prompt, _ in rows]
        texts = [ids + list(tokens) for ids, (_, tokens) in zip(asked, rows, strict=True)]
        longest = max(map(len, texts))
        ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
        mask = torch.tensor([[1] * len(t) + [0] * (longest - len(t)) for t in texts])
        logits = self._model(input_ids=ids, attention_mask=mask).logits
        gaps = []
        for row, (start, text) in enumerate(zip(map(len, asked), texts, strict=True)):
            steps = logits[row, start - 1 : len(text) - 1]
            chosen = steps.gather(1, torch.tensor(text[start:]).unsqueeze(1)).squeeze(1)
            gaps.append(float((steps.max(dim=1).values - chosen).max()))
        return gaps


def by_digest(
    answers: Mapping[tuple[str, str], Iterable[tuple[int, ...]]],
) -> dict[str, dict[str, list[tuple[int, ...]]]]:
    """Return the different answers by digest, then by prompt."""
    grouped: dict[str, dict[str, list[tuple[int, ...]]]] = defaultdict(dict)
    for (digest, prompt), many in answers.items():
        grouped[digest][prompt] = list(many)
    return grouped


def check_integrity(settings: Settings) -> list[str]:
    """Return a sentence for each thing that is wrong in the database or the stores.

    SQLite's pages and references, the bytes of every version that is not retired and of every
    artifact on disk, and nothing half-written.
    """
    problems = []
    path = settings.database.removeprefix("sqlite:///")
    with sqlite3.connect(path) as connection:
        problems += [f"integrity_check: {row}" for row in connection.execute(
            "PRAGMA integrity_check") if row != ("ok",)]  # fmt: skip
        problems += [f"foreign_key_check: {row}" for row in connection.execute(
            "PRAGMA foreign_key_check")]  # fmt: skip
        live = {digest for (digest,) in connection.execute(
            "SELECT digest FROM adapter_versions WHERE retired_at IS NULL")}  # fmt: skip
    connection.close()
    blobs, artifacts = LocalBlobs(settings.blobs), LocalBlobs(settings.artifacts)
    for store, digests in ((blobs, live), (artifacts, artifacts.digests())):
        for digest in digests:
            try:
                store.verify(digest)
            except Exception as error:
                problems.append(str(error))
    for folder in (settings.blobs, settings.artifacts):
        left = list((folder / ".workspaces").glob("*"))
        problems += [f"left behind: {item}" for item in left]
    return problems
