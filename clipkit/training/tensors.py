"""Conversions between uint8 images, as they are painted and saved, and tensors, as networks take them."""

from __future__ import annotations

import numpy as np
import torch


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """Convert uint8 (n, h, w, 3) to float32 (n, 3, h, w) in [-1, 1], in channels-last memory format."""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return x.float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)


def to_images(x: torch.Tensor) -> np.ndarray:
    """Convert (n, 3, h, w) in [-1, 1] to uint8 (n, h, w, 3); values outside are clipped."""
    return x.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
