"""From a query to the image embeddings that a decoder takes: its words through a prior, its pictures as they are."""

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
from clipkit.generation.prior import DiffusionPrior, MlpPrior, Prior
from clipkit.generation.towers import ImageTower
from clipkit.models.encoder import Encoder


class PictureConditions(Protocol):
    """Pictures to image embeddings of a decoder's space, float32 (n, d), not normalised."""

    name: str
    """The prior's name, for the record; empty where there is none."""

    def of_pictures(self, pictures: Sequence[Image]) -> np.ndarray:
        """What the pictures are embedded as."""
        ...

    def of_nothing(self) -> np.ndarray | None:
        """The embedding (d,) that stands for no condition in classifier-free guidance; None if the decoder has its
        own way."""
        ...


@runtime_checkable
class Conditions(PictureConditions, Protocol):
    """Words too. Decoders that read words themselves (`DecoderEntry.reads_words`) have none of these."""

    def of_texts(self, texts: Sequence[str], seed: int) -> np.ndarray:
        """What pictures of the texts would be embedded as, float32 (n, d), not normalised; `seed` picks one of the
        many."""
        ...


class TrainedConditions:
    """A prior that clipkit trained, on top of the towers of an open_clip space; nothing is a zero embedding."""

    def __init__(self, encoder: Encoder, prior: Prior, name: str) -> None:
        self.encoder, self.prior, self.name = encoder, prior, name

    def of_texts(self, texts: Sequence[str], seed: int) -> np.ndarray:
        embeddings = torch.from_numpy(self.encoder.encode_texts(list(texts)))
        return self.prior.predict(embeddings, torch.Generator().manual_seed(seed)).numpy()

    def of_pictures(self, pictures: Sequence[Image]) -> np.ndarray:
        return self.encoder.encode_images(np.stack([self.encoder.preprocessing.pixels(p) for p in pictures]))

    def of_nothing(self) -> np.ndarray:
        return np.zeros(self.encoder.dimension, np.float32)


class TowerConditions:
    """An image tower alone, for decoders that read words themselves; nothing is left to them too."""

    def __init__(self, tower: ImageTower) -> None:
        self.tower, self.name = tower, ""

    def of_pictures(self, pictures: Sequence[Image]) -> np.ndarray:
        return self.tower.encode(pictures)

    def of_nothing(self) -> None:
        return None


def load_trained_prior(folder: Path) -> Prior:
    """The prior in a folder, of whichever kind its configuration says. Raises DecoderNotAvailable."""
    if not (folder / "config.json").is_file():
        raise DecoderNotAvailable(f"there is no prior in {folder}: a decoder folder keeps it in its subfolder prior")
    kind = json.loads((folder / "config.json").read_text("utf-8"))["_class_name"]
    with quiet_diffusers():
        if kind == "MlpPrior":
            return MlpPrior.from_pretrained(folder, dtype=torch.float32, low_cpu_mem_usage=False).eval()
        from diffusers import PriorTransformer

        model = PriorTransformer.from_pretrained(folder, dtype=torch.float32, low_cpu_mem_usage=False)
        return DiffusionPrior(model.eval())
