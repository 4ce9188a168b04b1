"""Stable unCLIP: Stable Diffusion 2.1 conditioned on image embeddings (of ViT-H/14, or of ViT-L/14 the small one)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import StableUnCLIPImg2ImgPipeline
from PIL.Image import Image

from clipkit.generation import decoder_files
from clipkit.generation.decoder import (
    Aim,
    Settings,
    counting,
    embedding_of,
    one_line_if_it_fails,
    picture,
    quiet_diffusers,
)
from clipkit.generation.placement import load, place
from clipkit.generation.registry import DecoderEntry
from clipkit.models.devices import choose_device


@dataclass(frozen=True)
class Noised:
    """Words, and image embeddings (1, d) with the noise level of each way; no unwanted one is the model's own zeros."""

    words: str
    unwanted_words: str
    wanted: torch.Tensor
    noise: int
    unwanted: torch.Tensor | None


class _FromEmbeddings(StableUnCLIPImg2ImgPipeline):
    """diffusers' pipeline without its image tower, and with an embedding to keep away from."""

    unwanted: torch.Tensor | None = None

    def _encode_image(
        self, image, device, batch_size, num_images_per_prompt, do_classifier_free_guidance, noise_level, generator,
        image_embeds,
    ):  # fmt: skip
        wanted = self.noise_image_embeddings(image_embeds, noise_level, generator=generator)
        if not do_classifier_free_guidance:
            return wanted
        if self.unwanted is None:
            return torch.cat([torch.zeros_like(wanted), wanted])
        return torch.cat([self.noise_image_embeddings(self.unwanted, 0, generator=generator), wanted])


class StableUnclipDecoder:
    """Stable unCLIP, from embeddings, words or both; words are its own prompt.

    Words alone come with an embedding that is noise only, and says so: the model was trained at all levels of noise.
    """

    def __init__(self, entry: DecoderEntry, device: str = "auto") -> None:
        self.entry, self.device = entry, choose_device(device)
        with one_line_if_it_fails(f"the decoder {entry.id}"), quiet_diffusers():
            folder = decoder_files.main_folder(entry)
            pipeline = load(_FromEmbeddings, folder, self.device, image_encoder=None, feature_extractor=None)
        self.dimension = pipeline.image_normalizer.mean.shape[1]
        self.pipeline = place(pipeline, entry.memory_gb, self.device, entry.id)

    def prepare(self, wanted: Aim, away: Aim) -> Noised:
        most = self.pipeline.image_noising_scheduler.config.num_train_timesteps - 1
        unwanted = None if away.embedding is None else self._tensor(away)
        noise = most if wanted.embedding is None else 0
        return Noised(wanted.words, away.words, self._tensor(wanted), noise, unwanted)

    def _tensor(self, aim: Aim) -> torch.Tensor:
        embedding = torch.from_numpy(embedding_of(aim, self.dimension, self.entry.id))
        return embedding[None].to(self.device, self.pipeline.unet.dtype)

    def generate(self, conditioning: Noised, settings: Settings, on_step: Callable[[int], None]) -> Image:
        step = 8 * self.pipeline.vae_scale_factor
        first = -(-settings.size // step) * step
        self.pipeline.unwanted = conditioning.unwanted
        count = counting(on_step, settings.steps, self.pipeline.scheduler)
        with quiet_diffusers():
            made = self.pipeline(
                prompt=conditioning.words,
                negative_prompt=conditioning.unwanted_words or None,
                image_embeds=conditioning.wanted,
                noise_level=conditioning.noise,
                height=first,
                width=first,
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance,
                generator=torch.Generator().manual_seed(settings.seed),
                output_type="np",
                callback=lambda *_: count(),
            )
        return picture(made.images[0], settings.size)
