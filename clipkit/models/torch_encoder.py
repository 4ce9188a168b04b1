"""A model that runs in torch: an open_clip model with its tokenizer and preprocessing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from clipkit.images.preprocessing import Preprocessing
from clipkit.models.encoder import words_outside
from clipkit.models.memory import AdaptiveBatches, translate_out_of_memory
from clipkit.models.text_tower import encode_tokens, is_causal, trim_padding

if TYPE_CHECKING:
    import torch

TORCH_TEXT_BATCH = 256
"""Number of texts in a batch of the text tower."""
CPU_IMAGE_BATCH = 8
"""Number of pictures in a batch of the image tower on a CPU, where more are no faster."""


class OpenClipEncoder:
    """An `Encoder` that runs an open_clip model in torch."""

    def __init__(
        self,
        space: str,
        model: Any,
        tokenizer: Any,
        preprocessing: Preprocessing,
        *,
        vocabulary: frozenset[str] = frozenset(),
        concepts: tuple[str, ...] = (),
        match: dict | None = None,
    ) -> None:
        self.space, self.preprocessing, self.concepts, self.match = space, preprocessing, concepts, match or {}
        self.model, self.tokenizer, self.vocabulary = model, tokenizer, vocabulary
        self.note = ""
        self._precisions: list[torch.dtype] = []
        self._text_batches = AdaptiveBatches()
        self._text_lock = threading.Lock()
        self.move(next(model.parameters()).device)
        self.dimension = int(self.encode_texts(["a"]).shape[1])

    @property
    def device(self) -> str:
        """ "cpu", "cuda" or "mps"."""
        return self._device.type

    def move(self, device: str | torch.device) -> None:
        """Move the model to another device and choose the precisions to try for images there, fastest first."""
        import torch

        self._device = torch.device(device)
        self.model.to(self._device)
        # float16 has three more bits of mantissa than bfloat16, so its vectors are closer to those of a CPU. Large
        # models can overflow it; they fall back to bfloat16, which has the range of float32.
        fast = [torch.float16] if self.device in ("cuda", "mps") else []
        if self.device == "cuda" and torch.cuda.is_bf16_supported():
            fast.append(torch.bfloat16)
        if fast:
            self.model.visual.to(memory_format=torch.channels_last)
        self._precisions = [*fast, torch.float32]
        self.image_batch: int | None = CPU_IMAGE_BATCH if self.device == "cpu" else None
        self._image_batches = AdaptiveBatches(self.image_batch)

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        with translate_out_of_memory(self.space, self.device):
            return self._image_batches(self._encode_images, pixels)

    def _encode_images(self, pixels: np.ndarray) -> np.ndarray:
        import torch

        batch = torch.from_numpy(self.preprocessing.normalise(pixels))
        if self.device == "cuda":
            batch = batch.pin_memory()
        batch = batch.to(self._device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        while True:
            precision = self._precisions[0]
            with torch.inference_mode(), torch.autocast(self.device, precision, precision != torch.float32):
                vectors = self.model.encode_image(batch).float().cpu().numpy()
            if len(self._precisions) == 1 or np.isfinite(vectors).all():
                return vectors
            self._precisions.pop(0)  # permanently: a model that overflows once will overflow again

    def tokens(self, texts: list[str]) -> np.ndarray:
        """Return token ids, int64 (n, context length)."""
        return self.tokenizer(texts).numpy()

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        parts = []
        for start in range(0, len(texts), TORCH_TEXT_BATCH):
            tokens = self.tokens(texts[start : start + TORCH_TEXT_BATCH])
            if is_causal(self.model):
                tokens = trim_padding(tokens)
            with self._text_lock, translate_out_of_memory(self.space, self.device):
                parts.append(self._text_batches(self._encode_tokens, tokens))
        return np.concatenate(parts)

    def _encode_tokens(self, tokens: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return encode_tokens(self.model, torch.from_numpy(tokens).to(self._device)).float().cpu().numpy()

    def unknown_words(self, text: str) -> list[str]:
        return words_outside(self.vocabulary, text)
