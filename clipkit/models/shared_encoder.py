"""An encoder that several threads may use."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from clipkit.models.encoder import Encoder


class SharedEncoder:
    """An `Encoder` whose towers run for one thread at a time.

    A text tower in torch is shortened to the texts of the batch that it runs, see `clipkit.models.text_tower`, and
    batches side by side would compete for the same cores.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        with self._lock:
            return self._encoder.encode_images(pixels)

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        with self._lock:
            return self._encoder.encode_texts(texts)
