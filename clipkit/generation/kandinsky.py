"""Kandinsky 2.2, a diffusion prior and decoder (Razzhigaev et al., 2023). The bundled decoder uses the same classes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from diffusers import KandinskyV22InpaintPipeline, KandinskyV22Pipeline, KandinskyV22PriorPipeline
from PIL import Image

from clipkit.atomic import atomic_write
from clipkit.generation import (
    codec,  # noqa: F401  diffusers loads the bundled decoder's classes only from modules that are imported
    decoder_files,
    sketch_unet,  # noqa: F401
)
from clipkit.generation.decoder import (
    Conditioning,
    Settings,
    Start,
    checked_embedding,
    explain_load_failure,
    quiet_diffusers,
    step_counter,
    to_image,
)
from clipkit.generation.image_tower import ImageTower
from clipkit.generation.latents import PictureStart, initial_latents
from clipkit.generation.placement import is_short_of_memory, load_pipeline, move_to_device
from clipkit.generation.registry import DecoderEntry
from clipkit.generation.upsampler import Upsampler
from clipkit.models.devices import choose_device

PRIOR_MEMORY_SHARE = 0.4
"""Share of an entry's `memory_gb` that prior and text tower need."""


@dataclass(frozen=True)
class KandinskyInputs:
    """Two image embeddings (1, d)."""

    positive: torch.Tensor
    negative: torch.Tensor


def pipeline_arguments(
    inputs: KandinskyInputs, settings: Settings, side: int, generator: torch.Generator
) -> dict[str, Any]:
    """Return what every pipeline of the family is called with; side: of the picture, in pixels."""
    return {
        "image_embeds": inputs.positive,
        "negative_image_embeds": inputs.negative,
        "height": side,
        "width": side,
        "num_inference_steps": settings.steps,
        "guidance_scale": settings.guidance,
        "generator": generator,
        "output_type": "pt",
    }


class KandinskyDecoder:
    """Kandinsky 2.2's decoder, or any model that loads as a `KandinskyV22Pipeline`.

    A decoder with a single native size has a second stage, as in unCLIP: the upsampler in its subfolder `upsampler`, if
    there is one, then Lanczos resampling.
    """

    def __init__(self, entry: DecoderEntry, device: str = "auto") -> None:
        self.entry, self.device = entry, choose_device(device)
        with explain_load_failure(f"the decoder {entry.id}"), quiet_diffusers():
            kind = KandinskyV22InpaintPipeline if entry.inpaints_only else KandinskyV22Pipeline
            pipeline = load_pipeline(kind, decoder_files.pipeline_folder(entry), self.device)
            self.upsampler = self._load_upsampler()
        self.dimension = pipeline.unet.config.encoder_hid_dim
        self.is_offloaded = is_short_of_memory(entry.memory_gb, self.device)
        self.pipeline = move_to_device(pipeline, entry.memory_gb, self.device, entry.id, offload=self.is_offloaded)
        self.from_picture = PictureStart(**self.pipeline.components)
        self.from_picture.temperature = entry.temperature
        self.from_picture.set_progress_bar_config(disable=True)

    def _load_upsampler(self) -> Upsampler | None:
        folder = self.entry.folder
        if folder is None or not (folder / "upsampler").is_dir():
            return None
        model = Upsampler.from_pretrained(folder / "upsampler", dtype=torch.float32, low_cpu_mem_usage=False)
        return model.to(self.device).eval()

    def prepare(self, positive: Conditioning, negative: Conditioning) -> KandinskyInputs:
        return KandinskyInputs(self._tensor(positive), self._tensor(negative))

    def _tensor(self, conditioning: Conditioning) -> torch.Tensor:
        embedding = torch.from_numpy(checked_embedding(conditioning, self.dimension, self.entry.id))
        # Cast here, because the pipeline does so only with guidance.
        return embedding[None].to(self.device, self.pipeline.unet.dtype)

    def generate(
        self,
        inputs: KandinskyInputs,
        settings: Settings,
        on_step: Callable[[int], None],
        start: Start | None = None,
    ) -> Image.Image:
        share = start.share(settings.steps) if start else 1.0
        count = step_counter(on_step, settings.steps, self.pipeline.scheduler, share)

        def on_step_end(pipeline: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            count()
            return values

        side = self.pipeline_size(settings.size)
        generator = torch.Generator().manual_seed(settings.seed)
        arguments = {**pipeline_arguments(inputs, settings, side, generator), "callback_on_step_end": on_step_end}
        if start is None:
            latents = initial_latents(self.pipeline, side, generator, self.entry.temperature)
            images = self.pipeline(latents=latents, **arguments).images
        else:
            strength = start.pipeline_strength(settings.steps)
            images = self.from_picture(image=start.fitted(side), strength=strength, **arguments).images
            images = 2 * images - 1  # of this pipeline they are in [0, 1]
        return self.finish(images, inputs, settings.size)

    def finish(self, images: torch.Tensor, inputs: KandinskyInputs, size: int) -> Image.Image:
        """Return the pipeline's picture, (1, 3, h, w) in [-1, 1], through the second stage and at this size."""
        if self.upsampler is not None:
            with torch.inference_mode():
                images = self.upsampler(images.float(), inputs.positive.float())
        pixels = images[0].float().clamp(-1, 1).add(1).div(2).permute(1, 2, 0).cpu().numpy()
        return to_image(pixels, size)

    def pipeline_size(self, size: int) -> int:
        """Return the side in pixels to ask of the pipeline: native, or `size` rounded up to what the codec can hold."""
        multiple = self.pipeline.movq_scale_factor**2
        return self.entry.native or -(-size // multiple) * multiple


class _PriorWithoutTower(KandinskyV22PriorPipeline):
    """The prior's pipeline without its image tower, which encodes zeros at every call; clipkit caches the result."""

    def get_zero_embed(self, batch_size: int = 1, device: Any = None) -> torch.Tensor:
        return torch.zeros(batch_size, self.prior.config.embedding_dim, device=device)


class KandinskyConditioner:
    """Kandinsky 2.2's own prior, text tower and image tower, each loaded on first use.

    The unconditional embedding is that of an all-zero input. It is cached on disk, so that the image tower, the largest
    part, is loaded for images only.
    `decoder_is_offloaded`: whether the decoder uses CPU offload. The prior then does too, although it may fit the GPU
    while the decoder's parts are on the CPU.
    """

    STEPS, GUIDANCE = 25, 4.0

    def __init__(
        self, entry: DecoderEntry, device: str = "auto", decoder_is_offloaded: Callable[[], bool] = lambda: False
    ) -> None:
        self.entry, self.device, self.decoder_is_offloaded = entry, choose_device(device), decoder_is_offloaded
        self.folder = decoder_files.prior_folder(entry)
        self.name = entry.prior or entry.id
        self.tower = ImageTower(
            entry.id,
            find=lambda: self.folder / "image_encoder",
            processor=self.folder / "image_processor",
            device=self.device,
        )

    @cached_property
    def pipeline(self) -> Any:
        with explain_load_failure(f"the prior of the decoder {self.entry.id}"), quiet_diffusers():
            pipeline = load_pipeline(_PriorWithoutTower, self.folder, self.device, image_encoder=None)
        needed_gb = PRIOR_MEMORY_SHARE * self.entry.memory_gb
        offload = self.decoder_is_offloaded() or None
        return move_to_device(pipeline, needed_gb, self.device, self.entry.id, offload=offload)

    def embed_texts(self, texts: Sequence[str], seed: int) -> np.ndarray:
        embeddings = [
            self.pipeline(
                text,
                num_inference_steps=self.STEPS,
                guidance_scale=self.GUIDANCE,
                generator=torch.Generator().manual_seed(seed),
            ).image_embeds
            for text in texts
        ]
        return torch.cat(embeddings).float().cpu().numpy()

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        return self.tower.encode(images)

    def unconditional_embedding(self) -> np.ndarray:
        cached = decoder_files.cached_unconditional_embedding(self.entry)
        if cached is not None:
            return cached
        embedding = self.tower.encode_zeros()
        path = decoder_files.unconditional_embedding_file(self.entry)
        with contextlib.suppress(OSError):  # without the cache it is computed again next time
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                np.save(file, embedding)
        return embedding
