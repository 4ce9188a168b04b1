"""Recognise sprites by correlation alone: a measure of generated images without a neural network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F

from clipkit.samples.painting import paint_setting, sprite_of
from clipkit.samples.world import settings, things
from clipkit.training.tensors import to_tensor

SIZES = (27, 29, 32, 36, 40, 44)
"""Widths of sprites in images of 64 px; in canonical poses they are 29 or 40 px wide."""


@cache
def _templates(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return templates of all t sprites and their mirror images, of norm 1.

    Outlines are (2t, 1, size, size); the drawings within them, orthogonal to the outlines, are (2t, 3, size, size).
    """
    sprites = np.stack([np.asarray(sprite_of(thing.index, size), np.float32) for thing in things()])
    pixels = torch.from_numpy(sprites).permute(0, 3, 1, 2)
    pixels = torch.cat([pixels, pixels.flip(3)])
    outline = _unit(pixels[:, 3:] / 255)
    drawing = (pixels[:, :3] / 127.5 - 1) * pixels[:, 3:] / 255
    drawing = drawing - (drawing * outline).sum((2, 3), keepdim=True) * outline
    return outline, _unit(drawing)


def _unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.square().sum((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-6)


@cache
def _mean_background(index: int) -> torch.Tensor:
    """Return the mean image (3, 64, 64) of a setting without things."""
    images = [np.asarray(paint_setting(settings()[index], seed, 64)) for seed in range(64)]
    return to_tensor(np.stack(images)).mean(0)


@torch.inference_mode()
def best_correlations(images: np.ndarray, setting: Sequence[int], sizes: Sequence[int] = SIZES) -> np.ndarray:
    """Return the correlation of each image with each sprite at its best place, size and mirroring, float32 (n, t).

    `images` are uint8 (n, 64, 64, 3); `setting` holds the index of the requested setting of each.

    The image minus the mean background of its setting is correlated with the sprite's outline in any colour and with
    the drawing within it. The result is the multiple correlation: the square root of the share of energy that both
    explain. This is normalised cross-correlation (Lewis, "Fast normalized cross-correlation", 1995) for a sprite that
    covers part of a known background; a drawing in inverted colours does not count.
    """
    out = []
    for image, index in zip(images, setting, strict=True):
        x = to_tensor(image[None])[0] - _mean_background(index)
        best = torch.zeros(len(things()))
        for size in sizes:
            outline, drawing = _templates(size)
            inside = F.conv2d(x[:, None], outline).square().sum(0)
            within = F.conv2d(x[None], drawing)[0].clamp_min(0).square()
            best = torch.maximum(best, (inside + within).flatten(1).amax(1).view(2, -1).amax(0))
        out.append((best / x.square().sum().clamp_min(1e-6)).sqrt().numpy())
    return np.stack(out)
