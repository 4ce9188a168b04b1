"""The bundled decoder's UNet: diffusion around a sketch drawn from the embedding."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

from clipkit.generation.sketch import Sketch

NOISE_SCHEDULE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}
"""Configuration of the `DDPMScheduler` that the UNet is trained with; samplers must use the same."""


class SketchUNet(ModelMixin, ConfigMixin):
    """diffusers' UNet conditioned on a sketch, in place of `KandinskyV22Pipeline`'s `unet`.

    Latents are patches of pixels in an orthogonal basis (`codec.py`), modelled as those of the sketch plus a normal
    residual; `deviation` is its standard deviation in each direction of the basis. Without a condition (an embedding of
    zeros) they have mean 0 and standard deviation `unconditional_deviation`. The network sees the sketch and the noisy
    residual, and predicts the error of the best linear estimate under that model, scaled to unit variance at every
    timestep: the preconditioning of Karras et al., "Elucidating the design space of diffusion-based generative models"
    (NeurIPS 2022), section 5. Diffusion around a regression's mean: Han et al., "CARD" (NeurIPS 2022); with its
    covariance: Lee et al., "PriorGrad" (ICLR 2022).
    """

    @register_to_config
    def __init__(
        self,
        encoder_hid_dim: int = 256,
        in_channels: int = 48,
        sample_size: int = 16,
        latent_scale: float = 3.0,
        block_out_channels: tuple[int, ...] = (96, 160),
        layers_per_block: int = 1,
        time_embedding_dim: int = 512,
        sketch_groups: tuple[int, ...] = (),
        sketch_width: int = 1024,
        sketch_details: int = 64,
        sketch_features: int = 32,
    ) -> None:
        super().__init__()
        self.patch = round((in_channels / 3) ** 0.5)
        self.sketch = Sketch(
            encoder_hid_dim,
            sample_size * self.patch,
            groups=tuple(sketch_groups),
            patch=self.patch,
            width=sketch_width,
            details=sketch_details,
            features=sketch_features,
        )
        levels = len(block_out_channels)
        self.unet = UNet2DConditionModel(
            sample_size=sample_size,
            in_channels=2 * in_channels,
            out_channels=in_channels,
            down_block_types=("DownBlock2D",) * levels,
            mid_block_type="UNetMidBlock2D",
            up_block_types=("UpBlock2D",) * levels,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            attention_head_dim=32,
            resnet_time_scale_shift="scale_shift",
            time_embedding_dim=time_embedding_dim,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=encoder_hid_dim,
        )
        self.register_buffer("basis", torch.eye(in_channels))
        self.register_buffer("deviation", torch.ones(in_channels))
        self.register_buffer("unconditional_deviation", torch.ones(in_channels))
        self.register_buffer("embedding_mean", torch.zeros(encoder_hid_dim))
        self.register_buffer("embedding_std", torch.ones(encoder_hid_dim))
        # A picture (1, 3, side, side) and a mask (1, 1, side, side): sketches show their things in it, where the mask
        # is 1, instead of in a setting of their own.
        self.surroundings: tuple[torch.Tensor, torch.Tensor] | None = None
        # Not a buffer: half precision would lose the signal of the noisiest timesteps.
        self.alphas_cumprod = DDPMScheduler(**NOISE_SCHEDULE).alphas_cumprod

    def scaled(self, image_embeds: torch.Tensor) -> torch.Tensor:
        """Return embeddings (n, d) standardised to mean 0 and variance 1, the input of sketch and network."""
        return (image_embeds - self.embedding_mean) / self.embedding_std

    def sketched(self, image_embeds: torch.Tensor) -> torch.Tensor:
        """Return the sketches of embeddings (n, d) as latents (n, in_channels, sample_size, sample_size)."""
        if self.surroundings is None:
            pixels = self.sketch(self.scaled(image_embeds))
        else:
            around, inside = self.surroundings
            drawn, opacity = self.sketch.matted(self.scaled(image_embeds))
            pixels = torch.lerp(around, drawn, opacity * inside)
        return F.conv2d(F.pixel_unshuffle(pixels, self.patch), self.basis[..., None, None]) * self.config.latent_scale

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | int,
        encoder_hidden_states: None = None,
        added_cond_kwargs: dict[str, torch.Tensor] | None = None,
        return_dict: bool = True,
        **_: Any,
    ) -> UNet2DConditionOutput | tuple[torch.Tensor]:
        """Predict v of noisy latents (n, c, h, w), followed by zeros for the variance: (n, 2c, h, w).

        `added_cond_kwargs["image_embeds"]`: CLIP embeddings (n, d), not normalised, or zeros.
        """
        assert added_cond_kwargs is not None
        embeddings = added_cond_kwargs["image_embeds"]
        predicted = self.velocity(sample, torch.as_tensor(timestep, device=sample.device), embeddings)
        out = torch.cat([predicted, torch.zeros_like(predicted)], 1)
        return UNet2DConditionOutput(sample=out) if return_dict else (out,)

    def velocity(self, noisy: torch.Tensor, timestep: torch.Tensor, image_embeds: torch.Tensor) -> torch.Tensor:
        """Return v = signal * noise - sigma * latents (Salimans & Ho, ICLR 2022), (n, c, h, w)."""
        mean, known, condition = self.condition(image_embeds, noisy.dtype)
        residual, estimate, scale = self.linear_estimate(noisy, timestep.expand(len(noisy)), mean, known)
        return estimate + scale * self.correction(residual, mean, timestep, condition)

    def condition(
        self, image_embeds: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the sketches, a mask of the samples with a condition (n, 1, 1, 1), and the condition (n, d)."""
        known = (image_embeds != 0).any(1)[:, None].to(dtype)
        mean = self.sketched(image_embeds) * known[..., None, None]
        return mean, known[..., None, None], self.scaled(image_embeds) * known

    def levels(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the signal and noise levels at timesteps (n,), float32 (n, 1, 1, 1) each."""
        alpha = self.alphas_cumprod.to(timesteps.device)[timesteps].view(-1, 1, 1, 1)
        return alpha.sqrt(), (1 - alpha).sqrt()

    def linear_estimate(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, mean: torch.Tensor, known: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the noisy residual at unit variance, the best linear estimate of v, and the estimate's standard
        error."""
        signal, sigma = (level.to(noisy.dtype) for level in self.levels(timesteps))
        deviation = torch.where(
            known > 0, self.deviation.view(1, -1, 1, 1), self.unconditional_deviation.view(1, -1, 1, 1)
        )
        total = ((signal * deviation) ** 2 + sigma**2).sqrt()
        residual = noisy - signal * mean
        estimate = signal * sigma * (1 - deviation**2) / total**2 * residual - sigma * mean
        return residual / total, estimate, deviation / total

    def correction(
        self, residual: torch.Tensor, mean: torch.Tensor, timestep: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        """Return the network's correction of the linear estimate, in units of its standard error."""
        inputs = torch.cat([residual, mean], 1)
        return self.unet(inputs, timestep, encoder_hidden_states=None, class_labels=condition, return_dict=False)[0]
