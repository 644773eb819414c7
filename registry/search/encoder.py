"""Text to vectors: what an encoder is, and the one that needs nothing but this file.

Not covered: encoders that are neural networks (the server brings them).
"""

import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"\w+")
_GRAM_SIZES = (3, 4)
# A word counts as much as all of its pieces together: pieces find relatives, words the thing.
_WORD_WEIGHT = 1.0
_GRAMS_WEIGHT = 1.0
# Words that say nothing about what a text is about.
_EMPTY_WORDS = frozenset(
    """
    a about an and are as at be by can do does for from has have how i if in into is it its me my no
    not of on or our please so that the their them then there these they this to us was we were what
    when where which who why will with would you your
    """.split()
)


class Encoder(Protocol):
    """Turns texts into vectors whose dot products say how near their meanings are."""

    @property
    def name(self) -> str:
        """Return what vectors of this encoder are kept under; another name, another space."""

    @property
    def dim(self) -> int:
        """Return how many numbers a vector has."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row per text, (n, dim) float32, each of length 1, or 0 for an empty text.

        The same text gives the same row, whatever stands beside it. Safe to call from threads.
        """


class HashingEncoder:
    """Counts of words and of pieces of words, hashed with signs into a fixed number of places.

    After Weinberger et al. 2009 (arXiv:0902.2206). It knows spelling, not meaning: "contracts"
    finds "contract", never "law". Same numbers on every machine.
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
        # Growth slows down: the tenth time a word occurs says less than the first.
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
