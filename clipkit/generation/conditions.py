"""From a query to the image embeddings that a decoder takes: its words through a prior, its pictures as they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL.Image import Image

from clipkit.errors import DecoderNotAvailable
from clipkit.generation.decoder import quiet_diffusers
from clipkit.generation.prior import DiffusionPrior, MlpPrior, Prior
from clipkit.generation.registry import DecoderEntry
from clipkit.spaces.encoder import Encoder, choose_device, load_encoder


class Conditions(Protocol):
    """Words and pictures to image embeddings of a decoder's space, float32 (n, d), not normalised."""

    name: str
    """The prior's name, for the record."""

    def of_texts(self, texts: Sequence[str], seed: int) -> np.ndarray:
        """What pictures of the texts would be embedded as; `seed` picks one of the many."""
        ...

    def of_pictures(self, pictures: Sequence[Image]) -> np.ndarray:
        """What the pictures are embedded as."""
        ...

    def of_nothing(self) -> np.ndarray:
        """The embedding (d,) that stands for no condition in classifier-free guidance."""
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


class KandinskyConditions:
    """Kandinsky 2.2's own prior, text tower and image tower; nothing is the embedding of a black picture."""

    STEPS, GUIDANCE = 25, 4.0

    def __init__(self, source: str, device: str = "auto") -> None:
        from diffusers import KandinskyV22PriorPipeline
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        self.name, device = Path(source).name, choose_device(device)
        dtype = torch.float16 if device == "cuda" else torch.float32
        with quiet_diffusers():
            pipeline = KandinskyV22PriorPipeline.from_pretrained(
                source, dtype=dtype, low_cpu_mem_usage=False, use_safetensors=True
            )
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline.to(device)

    def of_texts(self, texts: Sequence[str], seed: int) -> np.ndarray:
        made = [
            self.pipeline(
                text,
                num_inference_steps=self.STEPS,
                guidance_scale=self.GUIDANCE,
                generator=torch.Generator().manual_seed(seed),
            ).image_embeds
            for text in texts
        ]
        return torch.cat(made).float().cpu().numpy()

    @torch.inference_mode()
    def of_pictures(self, pictures: Sequence[Image]) -> np.ndarray:
        tower = self.pipeline.image_encoder
        pixels = self.pipeline.image_processor(list(pictures), return_tensors="pt").pixel_values
        return tower(pixels.to(tower.device, tower.dtype)).image_embeds.float().cpu().numpy()

    @torch.inference_mode()
    def of_nothing(self) -> np.ndarray:
        return self.pipeline.get_zero_embed(device=self.pipeline.device)[0].float().cpu().numpy()


@lru_cache(maxsize=2)
def load_conditions(entry: DecoderEntry, device: str = "auto") -> Conditions:
    """What goes with a decoder. Raises DecoderNotAvailable if the prior, or the space it stands on, is not here."""
    source = str(entry.folder / "prior") if entry.folder else entry.prior
    try:
        if entry.folder and not (entry.folder / "prior" / "model_index.json").is_file():
            return TrainedConditions(
                load_encoder(_space_of(entry), device), load_trained_prior(entry.folder / "prior"), entry.id
            )
        return KandinskyConditions(source, device)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise DecoderNotAvailable(f"the prior of the decoder {entry.id} cannot be loaded ({reason})") from error


def _space_of(entry: DecoderEntry) -> str:
    if not entry.space:
        raise DecoderNotAvailable(
            f'{entry.folder} does not say which space its prior stands on: write {{"space": ...}} to its clipkit.json'
        )
    return entry.space


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
