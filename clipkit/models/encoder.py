"""The interface of a loaded model: an image tower and a text tower."""

from __future__ import annotations

import re
from typing import Protocol

import numpy as np

from clipkit.images.preprocessing import Preprocessing


class Encoder(Protocol):
    """What indexing and searching need of a model. Vectors are not normalised: decoders need their norms."""

    space: str
    """The id of the vector space, which is the canonical id of the model."""
    dimension: int
    preprocessing: Preprocessing
    concepts: tuple[str, ...]
    """The model's own concept bank for the match decision; empty for models with an open vocabulary."""
    match: dict
    """Weights of the match decision, see `clipkit.matching.Calibration.to_json`; empty for photograph models."""
    image_batch: int | None
    """Number of pictures encoded at once, on which the rounding of a vector depends; None for any number."""
    note: str
    """One line for the user about how the model runs, or empty."""

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """Encode uint8 (n, size, size, 3) pixels from `preprocessing.pixels` to float32 (n, dimension)."""
        ...

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """Encode n texts to float32 (n, dimension)."""
        ...

    def unknown_words(self, text: str) -> list[str]:
        """Return the words of a text that the model was not trained on, in order; none for an open vocabulary."""
        ...


def words_outside(vocabulary: frozenset[str], text: str) -> list[str]:
    """Return the words of a text that are not in the vocabulary, in order, each once; none if it is empty.

    Digits and symbols count as words only in a text without letters.
    """
    words = (re.findall(r"[^\W\d_]+", text.lower()) or text.split()) if vocabulary else []
    return list(dict.fromkeys(word for word in words if word not in vocabulary))
