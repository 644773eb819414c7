"""Text encoders: the protocol, and an encoder without dependencies.

Not covered: neural encoders (`server.embedders`).
"""

import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"\w+")
_GRAM_SIZES = (3, 4)
# A word weighs as much as all its n-grams together: n-grams match related words, words only
# themselves.
_WORD_WEIGHT = 1.0
_GRAMS_WEIGHT = 1.0
# Stop words: they tell nothing about a text's subject.
_EMPTY_WORDS = frozenset(
    """
    a about an and are as at be by can do does for from has have how i if in into is it its me my no
    not of on or our please so that the their them then there these they this to us was we were what
    when where which who why will with would you your
    """.split()
)


class Encoder(Protocol):
    """Turns texts into vectors whose dot products measure similarity."""

    @property
    def name(self) -> str:
        """Return the name of the encoder's space; different names are not compared."""

    @property
    def dim(self) -> int:
        """Return the length of a vector."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row per text, (n, dim) float32, each of length 1, or 0 for an empty text.

        A row depends only on its own text, not on the batch. Safe to call from threads.
        """


class HashingEncoder:
    """Counts of words and character n-grams, hashed with signs into a fixed number of dimensions.

    After Weinberger et al. 2009 (arXiv:0902.2206). It compares spelling, not meaning: "contracts"
    finds "contract", never "law". Vectors are equal on every machine.
    """

    name = "hashing-1"
    dim = 1024

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row per text: see `Encoder.encode`."""
        rows = np.zeros((len(texts), self.dim), np.float64)
        for row, text in zip(rows, texts, strict=True):
            for feature, weight in _features(text):
                code = zlib.crc32(feature.encode())
                row[(code >> 1) % self.dim] += weight if code & 1 else -weight
        # The square root damps counts: the tenth occurrence of a word adds less than the first.
        return unit_rows(np.sign(rows) * np.sqrt(np.abs(rows)))


def _features(text: str) -> Iterator[tuple[str, float]]:
    for word in _WORD.findall(text.lower().replace("_", " ")):
        if word in _EMPTY_WORDS:
            continue
        yield word, _WORD_WEIGHT
        marked = f"<{word}>"
        grams = [marked[i : i + n] for n in _GRAM_SIZES for i in range(len(marked) - n + 1)]
        for gram in grams:
            yield f"piece {gram}", _GRAMS_WEIGHT / len(grams)


def unit_rows(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return rows scaled to length 1 in float32; rows of zeros stay as they are."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=-1, keepdims=True)
    unit: NDArray[np.float32] = (rows / np.where(lengths == 0, 1, lengths)).astype(np.float32)
    return unit
