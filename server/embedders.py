"""The embedders that the registry uses: merge's weight sketch and the settings' text encoder.

Not covered: the encoder that needs no model (`registry.search.encoder`).
"""

import hashlib
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merge.peft_format import AdapterFolder
from merge.sketch import SKETCH_NAME, sketch
from registry.search.embeddings import Embedder
from registry.search.encoder import Encoder, HashingEncoder, unit_rows
from server.settings import HASHING, Settings


class EncoderUnavailable(Exception):
    """The text encoder of the settings cannot be loaded."""

    retry_after_seconds = 5

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(
            f"the text encoder {model!r} cannot be loaded ({reason}): install weft[search], name a "
            f"sentence-transformers model by Hub id or folder, or set WEFT_TEXT_ENCODER={HASHING}"
        )


class WeightSketch:
    """merge's sketch behind the registry's protocol."""

    name = SKETCH_NAME

    def sketch(self, folder: AdapterFolder) -> NDArray[np.float32]:
        """Return the adapter's vector: see `merge.sketch.sketch`."""
        return sketch(folder)


class SentenceEncoder:
    """A sentence-transformers model on the CPU, loaded on first use. Thread-safe.

    Its name comes from its weights: the same model in another place has the same space of vectors,
    and another model in the same place has another.
    """

    def __init__(self, model: str) -> None:
        self._model_name = model
        self._lock = threading.Lock()
        self._loaded: tuple[Any, str] | None = None

    @property
    def name(self) -> str:
        """`sentence-` and the first 16 digits of the digest of the weights."""
        return self._load()[1]

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return int(self._load()[0].get_embedding_dimension())

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row per text: see `registry.search.encoder.Encoder`.

        Raises:
            EncoderUnavailable: the model cannot be loaded.
        """
        model = self._load()[0]
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            if text.strip():
                whole = text.encode(
                    "utf-8", "replace"
                ).decode()  # JSON can hold unpaired surrogates
                # One by one: padding in a batch changes the last bits, and equal texts must give
                # equal vectors.
                with self._lock:
                    row[:] = model.encode(whole, show_progress_bar=False, convert_to_numpy=True)
        return unit_rows(rows)

    def _load(self) -> tuple[Any, str]:
        with self._lock:
            if self._loaded is None:
                try:
                    from sentence_transformers import SentenceTransformer

                    model = SentenceTransformer(self._model_name, device="cpu")
                except Exception as error:  # the library raises errors of many kinds
                    raise EncoderUnavailable(self._model_name, str(error)[:200]) from error
                self._loaded = model, f"sentence-{_digest(model)[:16]}"
            return self._loaded


def _digest(model: Any) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def open_embedder(settings: Settings) -> Embedder:
    """Return the embedder of the settings. Models are loaded on first use."""
    encoder: Encoder = HashingEncoder()
    if settings.text_encoder != HASHING:
        encoder = SentenceEncoder(settings.text_encoder)
    return Embedder(encoder, WeightSketch())
