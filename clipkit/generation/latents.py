"""The noise that sampling starts from."""

from __future__ import annotations

from typing import Any

import torch


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
