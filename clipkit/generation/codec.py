"""The bundled decoder's codec: pixels to latents and back, lossless."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.autoencoders.vq_model import VQEncoderOutput
from diffusers.models.modeling_utils import ModelMixin


class PatchCodec(ModelMixin, ConfigMixin):
    """Patches of pixels as latents, in place of the `movq` of Kandinsky 2.2's pipelines.

    The latents of a cell are the pixels of its patch in an orthogonal basis, times `latent_scale`. The bundled
    decoder's pictures are too small to need compression. The basis separates coarse from fine structure, so that the
    decoder can treat them differently.

    `block_out_channels`: only its length matters; the pipelines assume patches of 2 ** (length - 1) pixels.
    `sample_size`: side in pixels of the pictures that the decoder was trained on.
    `latent_channels`: follows from the patch; the configuration records it, because pipelines look for it there.
    """

    @register_to_config
    def __init__(
        self,
        block_out_channels: tuple[int, ...] = (0, 0, 0),
        latent_scale: float = 3.0,
        sample_size: int = 64,
        latent_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.patch = 2 ** (len(block_out_channels) - 1)
        self.latent_channels = 3 * self.patch**2
        self.register_to_config(latent_channels=self.latent_channels)
        self.register_buffer("basis", torch.eye(self.latent_channels))

    def encode(self, x: torch.Tensor, return_dict: bool = True) -> VQEncoderOutput | tuple[torch.Tensor]:
        """Encode pixels in [-1, 1], (n, 3, h, w), as latents (n, latent_channels, h / patch, w / patch)."""
        latents = F.conv2d(F.pixel_unshuffle(x, self.patch), self.basis[..., None, None]) * self.config.latent_scale
        return VQEncoderOutput(latents=latents) if return_dict else (latents,)

    def decode(
        self, h: torch.Tensor, force_not_quantize: bool = True, return_dict: bool = True
    ) -> DecoderOutput | tuple[torch.Tensor]:
        """Decode latents to pixels, about [-1, 1], not clipped. `force_not_quantize`: ignored; pipelines pass it."""
        patches = F.conv2d(h / self.config.latent_scale, self.basis.T[..., None, None])
        x = F.pixel_shuffle(patches, self.patch)
        return DecoderOutput(sample=x) if return_dict else (x,)
