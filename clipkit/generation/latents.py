"""What sampling starts from: noise, or a picture with noise."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import KandinskyV22Img2ImgPipeline
from diffusers.utils.torch_utils import randn_tensor


def initial_latents(pipeline: Any, size: int, generator: torch.Generator, temperature: float) -> torch.Tensor:
    """Return the initial latents (1, c, h, w) of an image of `size` pixels a side, on the CPU.

    They are what `KandinskyV22Pipeline` draws from the generator itself, times the temperature: the standard deviation
    of the initial noise. Below 1, samples stay closer to the mean of the distribution: fidelity for diversity.
    """
    scale = pipeline.movq_scale_factor
    side = -(-size // scale**2) * scale
    unet = pipeline.unet
    noise = torch.randn((1, unet.config.in_channels, side, side), generator=generator, dtype=unet.dtype)
    return temperature * noise


class PictureStart(KandinskyV22Img2ImgPipeline):
    """diffusers' img2img pipeline, with the decoder's temperature, for latents of any number of channels."""

    temperature: float

    def prepare_latents(
        self,
        image: torch.Tensor,
        timestep: torch.Tensor,
        batch_size: int,
        num_images_per_prompt: int,
        dtype: torch.dtype,
        device: torch.device,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Add noise to a picture's latents (n, c, h, w), as of a time step (n,)."""
        noise = randn_tensor(image.shape, generator=generator, device=device, dtype=dtype)
        return self.scheduler.add_noise(image, self.temperature * noise, timestep)
