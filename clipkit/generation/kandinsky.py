"""Kandinsky 2.2: diffusion prior and decoder (Razzhigaev et al., 2023). The bundled decoder runs by the same lines."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import KandinskyV22Pipeline, KandinskyV22PriorPipeline
from PIL import Image

from clipkit.atomic import atomic_write
from clipkit.generation import (
    codec,  # noqa: F401  diffusers loads the bundled decoder's own parts only from modules that are imported
    decoder_files,
    sketch_unet,  # noqa: F401
)
from clipkit.generation.decoder import (
    Aim,
    Settings,
    counting,
    embedding_of,
    one_line_if_it_fails,
    picture,
    quiet_diffusers,
)
from clipkit.generation.placement import is_crowded, load, place
from clipkit.generation.registry import DecoderEntry
from clipkit.generation.towers import ImageTower
from clipkit.models.devices import choose_device

PRIOR_SHARE = 0.4
"""What prior and text tower take of the memory that the registry gives for the whole."""


@dataclass(frozen=True)
class ImageEmbeds:
    """What Kandinsky 2.2 is conditioned on: two tensors (1, d)."""

    wanted: torch.Tensor
    unwanted: torch.Tensor


class KandinskyDecoder:
    """Kandinsky 2.2's decoder, or any model that loads as a `KandinskyV22Pipeline`.

    One that makes a single, small size has a second stage, as unCLIP: its own upsampler if there is one in `upsampler`,
    and Lanczos resampling.
    """

    def __init__(self, entry: DecoderEntry, device: str = "auto") -> None:
        self.entry, self.device = entry, choose_device(device)
        with one_line_if_it_fails(f"the decoder {entry.id}"), quiet_diffusers():
            pipeline = load(KandinskyV22Pipeline, decoder_files.main_folder(entry), self.device)
            self.upsampler = self._upsampler(entry.folder)
        self.dimension = pipeline.unet.config.encoder_hid_dim
        self.takes_turns = is_crowded(entry.memory_gb, self.device)
        self.pipeline = place(pipeline, entry.memory_gb, self.device, entry.id, offload=self.takes_turns)

    def _upsampler(self, folder: Path | None):
        if folder is None or not (folder / "upsampler").is_dir():
            return None
        from clipkit.generation.upsampler import Upsampler

        model = Upsampler.from_pretrained(folder / "upsampler", dtype=torch.float32, low_cpu_mem_usage=False)
        return model.to(self.device).eval()

    def prepare(self, wanted: Aim, away: Aim) -> ImageEmbeds:
        both = (torch.from_numpy(embedding_of(aim, self.dimension, self.entry.id)) for aim in (wanted, away))
        # The pipeline itself casts them only where it guides.
        return ImageEmbeds(*(embedding[None].to(self.device, self.pipeline.unet.dtype) for embedding in both))

    def generate(self, conditioning: ImageEmbeds, settings: Settings, on_step: Callable[[int], None]) -> Image.Image:
        count = counting(on_step, settings.steps, self.pipeline.scheduler)

        def stepped(pipeline, step: int, timestep, values: dict) -> dict:
            count()
            return values

        first = self._first_size(settings.size)
        generator = torch.Generator().manual_seed(settings.seed)
        made = self.pipeline(
            image_embeds=conditioning.wanted,
            negative_image_embeds=conditioning.unwanted,
            height=first,
            width=first,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            generator=generator,
            latents=self._initial_latents(first, generator),
            output_type="pt",
            callback_on_step_end=stepped,
        ).images
        if self.upsampler is not None:
            with torch.inference_mode():
                made = self.upsampler(made.float(), conditioning.wanted.float())
        pixels = made[0].float().clamp(-1, 1).add(1).div(2).permute(1, 2, 0).cpu().numpy()
        return picture(pixels, settings.size)

    def _initial_latents(self, size: int, generator: torch.Generator) -> torch.Tensor:
        """Return noise (1, c, h, w) for a picture of `size` pixels: what the pipeline would draw, times the
        temperature."""
        scale = self.pipeline.movq_scale_factor
        side = -(-size // scale**2) * scale
        unet = self.pipeline.unet
        noise = torch.randn((1, unet.config.in_channels, side, side), generator=generator, dtype=unet.dtype)
        return noise * self.entry.temperature

    def _first_size(self, size: int) -> int:
        """The side that the UNet works at: the decoder's one, or what is asked for, rounded up to what the codec can
        hold."""
        step = self.pipeline.movq_scale_factor**2
        return self.entry.native or -(-size // step) * step


class _Prior(KandinskyV22PriorPipeline):
    """The prior pipeline without its image tower, which it would ask at every call for an embedding that is cached."""

    def get_zero_embed(self, batch_size: int = 1, device=None) -> torch.Tensor:
        return torch.zeros(batch_size, self.prior.config.embedding_dim, device=device)


class KandinskyConditions:
    """Kandinsky 2.2's own prior, text tower and image tower, each loaded when it is first needed.

    Nothing is the embedding of an input of zeros; it is kept in the user's cache, so that the image tower, the largest
    part, is loaded for pictures only. `crowded` tells whether the decoder's parts take turns on the GPU: then the prior
    takes turns with them, though it may find room there while they are away.
    """

    STEPS, GUIDANCE = 25, 4.0

    def __init__(self, entry: DecoderEntry, device: str = "auto", crowded: Callable[[], bool] = lambda: False) -> None:
        self.entry, self.device, self.crowded = entry, choose_device(device), crowded
        self.folder = decoder_files.prior_folder(entry)
        self.name = entry.prior or entry.id
        self.tower = ImageTower(
            lambda: self.folder / "image_encoder", self.folder / "image_processor", self.device, entry.id
        )

    @cached_property
    def pipeline(self) -> Any:
        with one_line_if_it_fails(f"the prior of the decoder {self.entry.id}"), quiet_diffusers():
            pipeline = load(_Prior, self.folder, self.device, image_encoder=None)
        needed = PRIOR_SHARE * self.entry.memory_gb
        return place(pipeline, needed, self.device, self.entry.id, offload=self.crowded() or None)

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

    def of_pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        return self.tower.encode(pictures)

    def of_nothing(self) -> np.ndarray:
        cached = decoder_files.cached_nothing(self.entry)
        if cached is not None:
            return cached
        embedding = self.tower.encode_zeros()
        path = decoder_files.nothing_file(self.entry)
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                np.save(file, embedding)
        return embedding
