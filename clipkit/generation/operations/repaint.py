"""Repaint the masked part of a picture with a decoder that was trained to generate whole pictures.

RePaint (Lugmayr et al., "RePaint: inpainting using denoising diffusion probabilistic models", CVPR 2022): after every
step, latents outside the mask are replaced by the original's, with as much noise as that step leaves. Every few steps,
noise is added again and the steps are repeated, so that what is painted grows together with what is kept.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from diffusers import DDIMScheduler


class RepaintScheduler(DDIMScheduler):
    """DDIM (Song et al., ICLR 2021) with time steps that are repeated: section 4.2 of RePaint.

    `jump`: how many steps are repeated at a time. `resamples`: how often they are taken.
    """

    jump, resamples = 5, 2

    @classmethod
    def like(cls, scheduler: Any) -> RepaintScheduler:
        """Return one with the noise schedule of another scheduler."""
        return cls.from_config(
            scheduler.config,
            clip_sample=False,
            thresholding=False,
            set_alpha_to_one=True,
            timestep_spacing="trailing",
        )

    def set_timesteps(self, num_inference_steps: int, device: Any = None, **_: Any) -> None:
        """Set the time steps, in the order in which they are taken."""
        self.timesteps: torch.Tensor
        super().set_timesteps(num_inference_steps, device)
        self.order_of_steps = repeated(num_inference_steps, self.jump, self.resamples)
        alphas = self.alphas_cumprod[self.timesteps.cpu()].tolist()
        self.levels = [*alphas, 1.0]
        self.timesteps = self.timesteps[self.order_of_steps]

    def step(self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, *_: Any, **options: Any) -> Any:
        """Return the latents of the next time step; a predicted variance is ignored."""
        model_output = model_output[:, : sample.shape[1]]
        return super().step(model_output, timestep, sample, return_dict=options.get("return_dict", True))


class KeepOutside:
    """A pipeline's `callback_on_step_end` that keeps the latents outside the mask, and adds noise before a repetition.

    `original`: the picture's latents (1, c, h, w). `inside`: 1 where they are repainted, else 0, (1, 1, h, w).
    `temperature`: standard deviation of the noise, as of the initial latents.
    """

    def __init__(
        self,
        scheduler: RepaintScheduler,
        original: torch.Tensor,
        inside: torch.Tensor,
        generator: torch.Generator,
        temperature: float = 1.0,
    ) -> None:
        self.scheduler, self.original, self.inside = scheduler, original, inside
        self.generator, self.temperature = generator, temperature

    def __call__(self, pipeline: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        latents = values["latents"]
        order, levels = self.scheduler.order_of_steps, self.scheduler.levels
        reached = order[step] + 1
        kept = noised(self.original.to(latents), levels[reached], self._noise(latents))
        latents = torch.lerp(kept, latents, self.inside.to(latents))
        following = order[step + 1] if step + 1 < len(order) else reached
        if following < reached:
            latents = noised(latents, levels[following] / levels[reached], self._noise(latents))
        return values | {"latents": latents}

    def _noise(self, latents: torch.Tensor) -> torch.Tensor:
        # On the CPU, so that a seed gives the same noise on every device.
        noise = torch.randn(latents.shape, generator=self.generator, dtype=torch.float32)
        return self.temperature * noise.to(latents)


def noised(latents: torch.Tensor, alpha: float, noise: torch.Tensor) -> torch.Tensor:
    """Return latents of which the share `alpha` of the variance is kept and the rest is noise."""
    return alpha**0.5 * latents + (1 - alpha) ** 0.5 * noise


def repeated(steps: int, jump: int, resamples: int) -> list[int]:
    """Return the numbers of the steps 0, 1, ... steps - 1 with each run of `jump` taken `resamples` times."""
    starts = [*range(0, steps, jump), steps]
    return [step for start, end in pairwise(starts) for _ in range(resamples) for step in range(start, end)]
