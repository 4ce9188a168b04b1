"""The bundled decoder's learned upsampler, 64 px to 256 px: a small version of unCLIP's second stage."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from clipkit.generation.initialising import start_at_zero


class _Block(nn.Module):
    """A residual block, x + conv(silu(scale * conv(x) + shift)), modulated by the condition; starts as the identity."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(condition, 2 * channels)
        self.last = nn.Conv2d(channels, channels, 3, padding=1)
        start_at_zero(self.last)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        scale, shift = self.modulation(condition)[..., None, None].chunk(2, 1)
        return x + self.last(F.silu(self.first(x) * (1 + scale) + shift))


class Upsampler(ModelMixin, ConfigMixin):
    """Bicubic interpolation plus a network that corrects it, conditioned on the image embedding.

    The network's middle works at half the input's size, and its last layer is a pixel shuffle (Shi et al., "Real-time
    single image and video super-resolution", CVPR 2016), initialised to zero. Embeddings are standardised to mean 0 and
    variance 1; an embedding of zeros means unknown.
    """

    @register_to_config
    def __init__(
        self, embedding_dim: int = 256, width: int = 48, middle: int = 96, blocks: int = 3, factor: int = 4
    ) -> None:
        super().__init__()
        condition = 2 * middle
        self.condition = nn.Sequential(nn.Linear(embedding_dim, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.enter = nn.Conv2d(3, width, 3, padding=1)
        self.before = _Block(width, condition)
        self.down = nn.Conv2d(width, middle, 2, stride=2)
        self.body = nn.ModuleList(_Block(middle, condition) for _ in range(blocks))
        self.up = nn.Conv2d(middle, 4 * width, 1)
        self.after = _Block(width, condition)
        self.leave = nn.Conv2d(width, 3 * factor**2, 3, padding=1)
        start_at_zero(self.leave)
        self.register_buffer("embedding_mean", torch.zeros(embedding_dim))
        self.register_buffer("embedding_std", torch.ones(embedding_dim))

    def forward(self, x: torch.Tensor, image_embeds: torch.Tensor) -> torch.Tensor:
        """Enlarge pixels in [-1, 1], (n, 3, h, w) with h and w even, to (n, 3, factor * h, factor * w).

        `image_embeds`: CLIP embeddings (n, d), not normalised, or zeros.
        """
        factor = self.config.factor
        known = (image_embeds != 0).any(1, keepdim=True)
        condition = self.condition((image_embeds - self.embedding_mean) / self.embedding_std * known)
        fine = self.before(self.enter(x), condition)
        coarse = self.down(fine)
        for block in self.body:
            coarse = block(coarse, condition)
        fine = self.after(fine + F.pixel_shuffle(self.up(coarse), 2), condition)
        enlarged = F.interpolate(x, scale_factor=factor, mode="bicubic", align_corners=False)
        return enlarged + F.pixel_shuffle(self.leave(fine), factor)
