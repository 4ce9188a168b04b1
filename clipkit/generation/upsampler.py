"""The learned upsampler of the bundled decoder: 64 px to 256 px, the second stage of unCLIP in small."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from clipkit.generation.codec import ResidualBlock, start_at_zero


class Upsampler(ModelMixin, ConfigMixin):
    """Bicubic interpolation and a small network of residual blocks that corrects it and starts at zero.

    The network works at the input's size and ends in a pixel shuffle (Shi et al., "Real-time single image and video
    super-resolution", CVPR 2016).
    """

    @register_to_config
    def __init__(self, width: int = 48, blocks: int = 4, factor: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            *(ResidualBlock(width) for _ in range(blocks)),
            nn.Conv2d(width, 3 * factor**2, 3, padding=1),
        )
        start_at_zero(self.body[-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pixels in [-1, 1], (n, 3, h, w), to (n, 3, factor * h, factor * w)."""
        factor = self.config.factor
        enlarged = F.interpolate(x, scale_factor=factor, mode="bicubic", align_corners=False)
        return enlarged + F.pixel_shuffle(self.body(x), factor)
