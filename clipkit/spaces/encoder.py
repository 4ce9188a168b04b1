"""The two towers of a space: pixels and words to vectors."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Protocol

import numpy as np

from clipkit.errors import SpaceNotAvailable
from clipkit.images.preprocessing import Preprocessing


class Encoder(Protocol):
    """What indexing and searching need of a model. Vectors are not normalised: decoders want their norms."""

    space: str
    dimension: int
    preprocessing: Preprocessing
    concepts: tuple[str, ...]
    """A bank of concepts of the space's own, for the match decision; empty for spaces that know all words."""
    match: dict
    """The match decision's weights, as `clipkit.matching.Calibration.to_json`; empty for spaces of photographs."""

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (n, size, size, 3), as `preprocessing.pixels` makes them, to float32 (n, dimension)."""
        ...

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """n texts to float32 (n, dimension)."""
        ...

    def unknown_words(self, text: str) -> list[str]:
        """The words that the space was never taught, in order; empty for spaces with an open vocabulary."""
        ...


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32; a zero row stays zero."""
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


class OpenClipEncoder:
    """An open_clip model, tokenizer and preprocessing of one space."""

    def __init__(
        self,
        space: str,
        model,
        tokenizer,
        preprocessing: Preprocessing,
        *,
        vocabulary: frozenset[str] = frozenset(),
        concepts: tuple[str, ...] = (),
        match: dict | None = None,
    ) -> None:
        self.space, self.preprocessing, self.concepts, self.match = space, preprocessing, concepts, match or {}
        self._model, self._tokenizer, self._vocabulary = model, tokenizer, vocabulary
        self._device = next(model.parameters()).device
        self.dimension = int(self.encode_texts(["a"]).shape[1])

    @property
    def device(self) -> str:
        """ "cpu", "cuda" or "mps"."""
        return self._device.type

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        import torch

        batch = torch.from_numpy(self.preprocessing.normalise(pixels)).to(self._device)
        batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(self.device, torch.float16, enabled=self.device == "cuda"):
            return self._model.encode_image(batch).float().cpu().numpy()

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            batches = [self._tokenizer(texts[i : i + 256]).to(self._device) for i in range(0, len(texts), 256)]
            return torch.cat([self._model.encode_text(tokens).float().cpu() for tokens in batches]).numpy()

    def unknown_words(self, text: str) -> list[str]:
        if not self._vocabulary:
            return []
        words = re.findall(r"[^\W\d_]+", text.lower())
        return list(dict.fromkeys(w for w in words if w not in self._vocabulary))


@lru_cache(maxsize=2)
def load_encoder(space: str, device: str = "auto") -> OpenClipEncoder:
    """The encoder of a space: a name of the registry, an open_clip "NAME/TAG", or a checkpoint folder.

    `device`: auto, cpu, cuda or mps. Raises SpaceNotAvailable if there is no such model here or to be had.
    """
    from clipkit.spaces import checkpoint

    try:
        return checkpoint.load(space, choose_device(device))
    except SpaceNotAvailable:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, ImportError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise SpaceNotAvailable(
            f"the model {space} cannot be loaded ({first_line}); "
            "name a folder with its open_clip_config.json and weights, or use --model tiny"
        ) from error


def choose_device(device: str) -> str:
    """Resolves "auto" to the fastest device of this machine; raises SpaceNotAvailable for one that it lacks."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, available in there.items() if available)
    if not there.get(device):
        raise SpaceNotAvailable(f"this machine has no device {device!r}; use --device auto or cpu")
    return device
