"""Stable unCLIP: Stable Diffusion 2.1 conditioned on image embeddings of ViT-H/14 (the small one: ViT-L/14)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableUnCLIPImg2ImgPipeline
from PIL.Image import Image

from clipkit.errors import DecoderNotAvailable
from clipkit.generation import decoder_files
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
from clipkit.generation.placement import load_pipeline, move_to_device
from clipkit.generation.registry import DecoderEntry
from clipkit.models.devices import choose_device


@dataclass(frozen=True)
class StableUnclipInputs:
    """Prompts and image embeddings (1, d).

    `noise_level`: of the positive embedding. Without a negative embedding the model's own zeros are used.
    """

    prompt: str
    negative_prompt: str
    positive: torch.Tensor
    noise_level: int
    negative: torch.Tensor | None


class _EmbeddingPipeline(StableUnCLIPImg2ImgPipeline):
    """diffusers' pipeline without its image tower, and with a negative embedding."""

    negative: torch.Tensor | None = None

    def _encode_image(
        self,
        image: Any,
        device: Any,
        batch_size: int,
        num_images_per_prompt: int,
        do_classifier_free_guidance: bool,
        noise_level: int,
        generator: Any,
        image_embeds: torch.Tensor,
    ) -> torch.Tensor:
        positive = self.noise_image_embeddings(image_embeds, noise_level, generator=generator)
        if not do_classifier_free_guidance:
            return positive
        if self.negative is None:
            return torch.cat([torch.zeros_like(positive), positive])
        return torch.cat([self.noise_image_embeddings(self.negative, 0, generator=generator), positive])


class StableUnclipDecoder:
    """Stable unCLIP, from embeddings, text or both; text is its prompt.

    Text alone comes with an embedding at the highest noise level, which carries no information; the model was trained
    at all levels.
    """

    def __init__(self, entry: DecoderEntry, device: str = "auto") -> None:
        self.entry, self.device = entry, choose_device(device)
        with explain_load_failure(f"the decoder {entry.id}"), quiet_diffusers():
            folder = decoder_files.pipeline_folder(entry)
            pipeline = load_pipeline(
                _EmbeddingPipeline, folder, self.device, image_encoder=None, feature_extractor=None
            )
        self.dimension = pipeline.image_normalizer.mean.shape[1]
        self.pipeline = move_to_device(pipeline, entry.memory_gb, self.device, entry.id)

    def prepare(self, positive: Conditioning, negative: Conditioning) -> StableUnclipInputs:
        highest = self.pipeline.image_noising_scheduler.config.num_train_timesteps - 1
        return StableUnclipInputs(
            prompt=positive.prompt,
            negative_prompt=negative.prompt,
            positive=self._tensor(positive),
            noise_level=highest if positive.embedding is None else 0,
            negative=None if negative.embedding is None else self._tensor(negative),
        )

    def _tensor(self, conditioning: Conditioning) -> torch.Tensor:
        embedding = torch.from_numpy(checked_embedding(conditioning, self.dimension, self.entry.id))
        return embedding[None].to(self.device, self.pipeline.unet.dtype)

    def generate(
        self,
        inputs: StableUnclipInputs,
        settings: Settings,
        on_step: Callable[[int], None],
        start: Start | None = None,
    ) -> Image:
        if start is not None:
            raise DecoderNotAvailable(f"the decoder {self.entry.id} cannot start from a picture")
        multiple = 8 * self.pipeline.vae_scale_factor
        side = -(-settings.size // multiple) * multiple
        self.pipeline.negative = inputs.negative
        count = step_counter(on_step, settings.steps, self.pipeline.scheduler)
        with quiet_diffusers():
            output = self.pipeline(
                prompt=inputs.prompt,
                negative_prompt=inputs.negative_prompt or None,
                image_embeds=inputs.positive,
                noise_level=inputs.noise_level,
                height=side,
                width=side,
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance,
                generator=torch.Generator().manual_seed(settings.seed),
                output_type="np",
                callback=lambda *_: count(),
            )
        return to_image(output.images[0], settings.size)
