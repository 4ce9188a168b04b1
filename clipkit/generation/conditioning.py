"""From a query's text and images to the image embeddings that a decoder takes: the conditioners."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from PIL.Image import Image

from clipkit.errors import DecoderNotAvailable
from clipkit.generation.decoder import quiet_diffusers
from clipkit.generation.image_tower import ImageTower
from clipkit.generation.prior import DiffusionPrior, MlpPrior, Prior
from clipkit.models.encoder import Encoder


class ImageConditioner(Protocol):
    """Maps images to the image embeddings that a decoder takes, float32 (n, d), not normalised."""

    name: str
    """The name of the prior, for the record; empty if there is none."""

    def embed_images(self, images: Sequence[Image]) -> np.ndarray:
        """Return the images' embeddings (n, d)."""
        ...

    def unconditional_embedding(self) -> np.ndarray | None:
        """Return the unconditional embedding (d,) for classifier-free guidance; None if the decoder supplies it."""
        ...


@runtime_checkable
class TextConditioner(ImageConditioner, Protocol):
    """An ImageConditioner with a prior. Decoders that take a prompt (`DecoderEntry.takes_prompt`) do without it."""

    def embed_texts(self, texts: Sequence[str], seed: int) -> np.ndarray:
        """Sample image embeddings (n, d) that match the texts."""
        ...


class TrainedPriorConditioner:
    """A prior trained by clipkit on top of an open_clip model; the unconditional embedding is zero."""

    def __init__(self, encoder: Encoder, prior: Prior, name: str) -> None:
        self.encoder, self.prior, self.name = encoder, prior, name

    def embed_texts(self, texts: Sequence[str], seed: int) -> np.ndarray:
        embeddings = torch.from_numpy(self.encoder.encode_texts(list(texts)))
        return self.prior.predict(embeddings, torch.Generator().manual_seed(seed)).numpy()

    def embed_images(self, images: Sequence[Image]) -> np.ndarray:
        return self.encoder.encode_images(np.stack([self.encoder.preprocessing.pixels(i) for i in images]))

    def unconditional_embedding(self) -> np.ndarray:
        return np.zeros(self.encoder.dimension, np.float32)


class TowerConditioner:
    """An image tower alone, for decoders that take a prompt. The decoder also supplies the unconditional embedding."""

    def __init__(self, tower: ImageTower) -> None:
        self.tower, self.name = tower, ""

    def embed_images(self, images: Sequence[Image]) -> np.ndarray:
        return self.tower.encode(images)

    def unconditional_embedding(self) -> None:
        return None


def load_trained_prior(folder: Path) -> Prior:
    """Load a prior trained by clipkit; its configuration names the class. Raises DecoderNotAvailable."""
    if not (folder / "config.json").is_file():
        raise DecoderNotAvailable(f"there is no prior in {folder}: a decoder's folder needs one in its subfolder prior")
    kind = json.loads((folder / "config.json").read_text("utf-8"))["_class_name"]
    with quiet_diffusers():
        if kind == "MlpPrior":
            return MlpPrior.from_pretrained(folder, dtype=torch.float32, low_cpu_mem_usage=False).eval()
        from diffusers import PriorTransformer

        model = PriorTransformer.from_pretrained(folder, dtype=torch.float32, low_cpu_mem_usage=False)
        return DiffusionPrior(model.eval())
