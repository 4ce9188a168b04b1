"""IP-Adapter on Stable Diffusion 1.5 or XL (Ye et al., "IP-Adapter", 2023): image embeddings beside a text prompt.

It takes the projected, global embedding of ViT-H/14, that of the model ViT-H-14/laion2b_s32b_b79k, so a library of that
model is decoded from its own embeddings. In h94/IP-Adapter these are `ip-adapter_sd15` and `ip-adapter_sdxl_vit-h`
(`ip-adapter_sdxl` takes those of bigG/14). The "plus" and "full" variants take the tower's hidden states, which no
library stores, and are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoPipelineForImage2Image, DiffusionPipeline
from PIL.Image import Image
from safetensors import safe_open

from clipkit.errors import ClipkitError, DecoderNotAvailable
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
class IpAdapterInputs:
    """Prompts and image embeddings (1, 1, d). `scale`: the adapter's weight against the prompt."""

    prompt: str
    negative_prompt: str
    positive: torch.Tensor
    negative: torch.Tensor
    scale: float


class IpAdapterDecoder:
    """A Stable Diffusion pipeline with an adapter's weights; text is its prompt and needs no prior."""

    def __init__(self, entry: DecoderEntry, device: str = "auto") -> None:
        self.entry, self.device = entry, choose_device(device)
        with explain_load_failure(f"the decoder {entry.id}"), quiet_diffusers():
            pipeline = load_pipeline(DiffusionPipeline, decoder_files.pipeline_folder(entry), self.device)
            weights = self._load_adapter()
            pipeline.load_ip_adapter(
                weights, subfolder="", weight_name="", image_encoder_folder=None, low_cpu_mem_usage=False
            )
        self.dimension = weights["image_proj"]["proj.weight"].shape[1]
        self.pipeline = move_to_device(pipeline, entry.memory_gb, self.device, entry.id)
        with quiet_diffusers():
            self.from_picture = AutoPipelineForImage2Image.from_pipe(self.pipeline)
        self.from_picture.set_progress_bar_config(disable=True)

    def _load_adapter(self) -> dict[str, dict[str, torch.Tensor]]:
        weights: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
        with safe_open(decoder_files.adapter_file(self.entry), framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - safetensors' handle is not a dict
                part, _, name = key.partition(".")
                weights[part][name] = file.get_tensor(key)
        if "proj.weight" not in weights["image_proj"]:
            raise DecoderNotAvailable(
                f"the adapter of {self.entry.id} takes hidden states, not image embeddings: use a plain IP-Adapter"
            )
        return weights

    def prepare(self, positive: Conditioning, negative: Conditioning) -> IpAdapterInputs:
        return IpAdapterInputs(
            prompt=positive.prompt,
            negative_prompt=negative.prompt,
            positive=self._tensor(positive),
            negative=self._tensor(negative),
            scale=0.0 if positive.embedding is None else positive.image_share,
        )

    def _tensor(self, conditioning: Conditioning) -> torch.Tensor:
        embedding = torch.from_numpy(checked_embedding(conditioning, self.dimension, self.entry.id))
        return embedding[None, None].to(self.device, self.pipeline.unet.dtype)

    def generate(
        self,
        inputs: IpAdapterInputs,
        settings: Settings,
        on_step: Callable[[int], None],
        start: Start | None = None,
    ) -> Image:
        share = start.share(settings.steps) if start else 1.0
        count = step_counter(on_step, settings.steps, self.pipeline.scheduler, share)

        def on_step_end(pipeline: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            count()
            return values

        embeddings = [inputs.negative, inputs.positive] if settings.guidance > 1 else [inputs.positive]
        multiple = 8 * self.pipeline.vae_scale_factor
        side = -(-settings.size // multiple) * multiple
        self.pipeline.set_ip_adapter_scale(inputs.scale)
        pipeline, size = self.pipeline, {"height": side, "width": side}
        if start is not None:
            pipeline = self.from_picture
            size = {"image": start.fitted(side), "strength": start.pipeline_strength(settings.steps)}
        with quiet_diffusers():
            output = pipeline(
                inputs.prompt,
                negative_prompt=inputs.negative_prompt or None,
                ip_adapter_image_embeds=[torch.cat(embeddings)],
                **size,
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance,
                generator=torch.Generator().manual_seed(settings.seed),
                output_type="np",
                callback_on_step_end=on_step_end,
            )
        if any(getattr(output, "nsfw_content_detected", None) or ()):
            raise ClipkitError(f"the safety checker of {self.entry.id} withheld the picture: try another seed")
        return to_image(output.images[0], settings.size)
