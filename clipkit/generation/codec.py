"""The bundled model's codec: pixels to latents of an eighth of the side, and back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.autoencoders.vq_model import VQEncoderOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

PATCH = 8


def start_at_zero(layer: nn.Module) -> None:
    """Zeroes a last layer, so that what it ends adds nothing before it has learned something."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(x))); starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.last = nn.Conv2d(channels, channels, 3, padding=1)
        start_at_zero(self.last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.last(F.silu(self.first(x)))


class PatchCodec(ModelMixin, ConfigMixin):
    """A patch autoencoder that fits where Kandinsky 2.2's pipelines expect their `movq`.

    Both ways are a linear map of 8 x 8 patches, which training starts at the data's principal components, plus a small
    convolutional network that corrects it and starts at zero. All convolutions run at an eighth and a quarter of the
    side, which is what makes it quick to train. There is no quantisation.

    `block_out_channels` are the widths at the full, half, quarter and eighth side; the first two have none of their
    own. The pipelines take the latents' scale (8) from their number. `sample_size`: the side in pixels that it was
    trained on.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 32,
        block_out_channels: tuple[int, ...] = (0, 0, 64, 128),
        encoder_blocks: int = 1,
        decoder_blocks: int = 2,
        sample_size: int = 64,
    ) -> None:
        super().__init__()
        fine, coarse, values = block_out_channels[2], block_out_channels[3], 3 * PATCH**2
        self.to_latents = nn.Conv2d(values, latent_channels, 1, bias=False)
        self.to_patches = nn.Conv2d(latent_channels, values, 1, bias=False)
        self.encoder = nn.Sequential(
            nn.Conv2d(values, coarse, 1),
            *(ResidualBlock(coarse) for _ in range(encoder_blocks)),
            nn.Conv2d(coarse, latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, coarse, 1),
            *(ResidualBlock(coarse) for _ in range(decoder_blocks)),
            nn.Conv2d(coarse, 4 * fine, 1),
            nn.PixelShuffle(2),
            ResidualBlock(fine),
            nn.Conv2d(fine, 3 * 4 * 4, 3, padding=1),
            nn.PixelShuffle(4),
        )
        for last in (self.encoder[-1], self.decoder[-2]):
            start_at_zero(last)
        self.register_buffer("patch_mean", torch.zeros(values))
        self.register_buffer("latent_mean", torch.zeros(latent_channels))
        self.register_buffer("latent_scale", torch.ones(latent_channels))

    def encode(self, x: torch.Tensor, return_dict: bool = True) -> VQEncoderOutput | tuple[torch.Tensor]:
        """Pixels in [-1, 1], (n, 3, h, w) with h and w multiples of 8, to latents (n, latent_channels, h/8, w/8)."""
        patches = F.pixel_unshuffle(x, PATCH) - self.patch_mean.view(1, -1, 1, 1)
        latents = self.to_latents(patches) + self.encoder(patches)
        latents = (latents - self.latent_mean.view(1, -1, 1, 1)) * self.latent_scale.view(1, -1, 1, 1)
        return VQEncoderOutput(latents=latents) if return_dict else (latents,)

    def decode(
        self, h: torch.Tensor, force_not_quantize: bool = True, return_dict: bool = True
    ) -> DecoderOutput | tuple[torch.Tensor]:
        """Latents to pixels, about [-1, 1] (not clipped). `force_not_quantize` is there for the pipelines' sake."""
        h = h / self.latent_scale.view(1, -1, 1, 1) + self.latent_mean.view(1, -1, 1, 1)
        patches = self.to_patches(h) + self.patch_mean.view(1, -1, 1, 1)
        x = F.pixel_shuffle(patches, PATCH) + self.decoder(h)
        return DecoderOutput(sample=x) if return_dict else (x,)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pixels through the latents and back."""
        return self.decode(self.encode(x, return_dict=False)[0], return_dict=False)[0]
