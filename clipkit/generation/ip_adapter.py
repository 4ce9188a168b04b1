"""IP-Adapter on Stable Diffusion 1.5 or XL (Ye et al., "IP-Adapter", 2023): image embeddings beside a text prompt.

It takes the projected, global embedding of ViT-H/14: that of the space ViT-H-14/laion2b_s32b_b79k, so a library in that
space is decoded from its own embeddings. Of h94/IP-Adapter these are `ip-adapter_sd15` and `ip-adapter_sdxl_vit-h` (and
`ip-adapter_sdxl`, which takes bigG/14's). The "plus" and "full" variants take the tower's hidden states, which no
library holds, and are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import DiffusionPipeline
from PIL.Image import Image
from safetensors import safe_open

from clipkit.errors import ClipkitError, DecoderNotAvailable
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
class Prompted:
    """Words and image embeddings (1, 1, d), wanted and unwanted; `scale` is the adapter's weight against the words."""

    words: str
    unwanted_words: str
    wanted: torch.Tensor
    unwanted: torch.Tensor
    scale: float


class IpAdapterDecoder:
    """A Stable Diffusion pipeline with an adapter's weights. Words are its own prompt, they need no prior."""

    def __init__(self, entry: DecoderEntry, device: str = "auto") -> None:
        self.entry, self.device = entry, choose_device(device)
        with one_line_if_it_fails(f"the decoder {entry.id}"), quiet_diffusers():
            pipeline = load(DiffusionPipeline, decoder_files.main_folder(entry), self.device)
            weights = self._adapter()
            pipeline.load_ip_adapter(
                weights, subfolder="", weight_name="", image_encoder_folder=None, low_cpu_mem_usage=False
            )
        self.dimension = weights["image_proj"]["proj.weight"].shape[1]
        self.pipeline = place(pipeline, entry.memory_gb, self.device, entry.id)

    def _adapter(self) -> dict[str, dict[str, torch.Tensor]]:
        weights: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
        with safe_open(decoder_files.adapter_file(self.entry), framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - safetensors' handle is no dict
                part, _, name = key.partition(".")
                weights[part][name] = file.get_tensor(key)
        if "proj.weight" not in weights["image_proj"]:
            raise DecoderNotAvailable(
                f"the adapter of {self.entry.id} takes hidden states, not image embeddings: use a plain IP-Adapter"
            )
        return weights

    def prepare(self, wanted: Aim, away: Aim) -> Prompted:
        def tensor(aim: Aim) -> torch.Tensor:
            embedding = torch.from_numpy(embedding_of(aim, self.dimension, self.entry.id))
            return embedding[None, None].to(self.device, self._dtype)

        scale = 0.0 if wanted.embedding is None else wanted.share
        return Prompted(wanted.words, away.words, tensor(wanted), tensor(away), scale)

    def generate(self, conditioning: Prompted, settings: Settings, on_step: Callable[[int], None]) -> Image:
        count = counting(on_step, settings.steps, self.pipeline.scheduler)

        def stepped(pipeline, step: int, timestep, values: dict) -> dict:
            count()
            return values

        guided = settings.guidance > 1
        embeds = [conditioning.unwanted, conditioning.wanted] if guided else [conditioning.wanted]
        step = 8 * self.pipeline.vae_scale_factor
        first = -(-settings.size // step) * step
        self.pipeline.set_ip_adapter_scale(conditioning.scale)
        with quiet_diffusers():
            made = self.pipeline(
                conditioning.words,
                negative_prompt=conditioning.unwanted_words or None,
                ip_adapter_image_embeds=[torch.cat(embeds)],
                height=first,
                width=first,
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance,
                generator=torch.Generator().manual_seed(settings.seed),
                output_type="np",
                callback_on_step_end=stepped,
            )
        if any(getattr(made, "nsfw_content_detected", None) or ()):
            raise ClipkitError(f"the safety checker of {self.entry.id} withheld the picture: another seed may do")
        return picture(made.images[0], settings.size)

    @property
    def _dtype(self) -> torch.dtype:
        return self.pipeline.unet.dtype
