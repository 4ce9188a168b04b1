"""Destroy a sprite's shape but keep its colours and textures, as negatives for the judge."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter

Scramble = Callable[[Image.Image, Image.Image, random.Random], Image.Image]


def scramble(sprite: Image.Image, other: Image.Image, rng: random.Random) -> Image.Image:
    """Destroy the sprite's shape by one of five transforms, or by two in sequence (30%).

    `sprite` and `other`, the sprite of another thing, are square RGBA images of the same size.
    """
    first, second = rng.sample(_SCRAMBLES, 2)
    sprite = first(sprite, other, rng)
    return second(sprite, other, rng) if rng.random() < 0.3 else sprite


def _shuffle(sprite: Image.Image, other: Image.Image, rng: random.Random) -> Image.Image:
    """Cut into 9 to 36 patches and permute them; half of the time, fill the gaps and cut out a random outline."""
    pixels = np.array(sprite)
    cuts = _grid_cells(sprite.width, rng.choice((3, 4, 5, 6)))
    order = cuts.copy()
    rng.shuffle(order)
    out = pixels.copy()
    for (y, x, h, w), (v, u, _, _) in zip(cuts, order, strict=True):
        out[y : y + h, x : x + w] = pixels[v : v + h, u : u + w]
    if rng.random() < 0.5:
        mean = pixels[..., :3][pixels[..., 3] > 0].mean(0).astype(np.uint8)
        out = np.dstack([np.where(out[..., 3:] > 0, out[..., :3], mean), _blob(sprite.width, rng)])
    return Image.fromarray(out, "RGBA")


def _swap(sprite: Image.Image, other: Image.Image, rng: random.Random) -> Image.Image:
    """Replace each patch by a random patch of this sprite or of the other."""
    sources = [np.array(sprite), np.array(other)]
    out = sources[0].copy()
    for y, x, h, w in _grid_cells(sprite.width, rng.choice((3, 4, 5))):
        source = rng.choice(sources)
        v, u = (rng.randrange(sprite.width - k + 1) for k in (h, w))
        out[y : y + h, x : x + w] = source[v : v + h, u : u + w]
    return Image.fromarray(out, "RGBA")


def _warp(sprite: Image.Image, other: Image.Image, rng: random.Random) -> Image.Image:
    """Displace pixels elastically, by up to half of the side."""
    cells, strength = rng.choice((4, 5, 6)), rng.uniform(0.5, 0.9)
    generator = torch.Generator().manual_seed(rng.getrandbits(31))
    field = strength * torch.randn(1, 2, cells, cells, generator=generator)
    field = F.interpolate(field, size=(sprite.height, sprite.width), mode="bicubic", align_corners=True)
    grid = F.affine_grid(torch.eye(2, 3)[None], [1, 4, sprite.height, sprite.width], align_corners=False)
    pixels = torch.from_numpy(np.array(sprite)).permute(2, 0, 1)[None].float()
    moved = F.grid_sample(pixels, grid + field.permute(0, 2, 3, 1), padding_mode="reflection", align_corners=False)
    return Image.fromarray(moved[0].permute(1, 2, 0).clamp(0, 255).byte().numpy(), "RGBA")


def _blur(sprite: Image.Image, other: Image.Image, rng: random.Random) -> Image.Image:
    """Blur beyond recognition."""
    return _premultiplied(sprite, ImageFilter.GaussianBlur(sprite.width * rng.uniform(0.11, 0.25)))


def _patches(sprite: Image.Image, other: Image.Image, rng: random.Random) -> Image.Image:
    """Keep only colour patches, with the edges of the other sprite, like an undertrained decoder."""
    rough = _premultiplied(sprite, ImageFilter.GaussianBlur(sprite.width * rng.uniform(0.07, 0.12)))
    texture = np.array(other.convert("L"), np.float32)
    grain = np.array(rough, np.float32)
    grain[..., :3] += rng.uniform(0.3, 0.7) * (texture - texture.mean())[..., None]
    return _warp(Image.fromarray(grain.clip(0, 255).astype(np.uint8), "RGBA"), other, rng)


_SCRAMBLES: list[Scramble] = [_shuffle, _swap, _warp, _blur, _patches]


def _premultiplied(sprite: Image.Image, image_filter: ImageFilter.Filter) -> Image.Image:
    """Filter with premultiplied alpha, so that the colours of transparent pixels do not bleed in."""
    pixels = np.array(sprite, np.float32)
    alpha = pixels[..., 3:] / 255
    weighted = Image.fromarray(np.dstack([pixels[..., :3] * alpha, pixels[..., 3:]]).astype(np.uint8), "RGBA")
    out = np.array(weighted.filter(image_filter), np.float32)
    out[..., :3] = np.where(out[..., 3:] > 0, out[..., :3] / np.maximum(out[..., 3:] / 255, 1e-3), 0).clip(0, 255)
    return Image.fromarray(out.astype(np.uint8), "RGBA")


def _grid_cells(side: int, parts: int) -> list[tuple[int, int, int, int]]:
    """Return `parts` x `parts` equal patches of a square as (y, x, height, width)."""
    step = side // parts
    return [(y * step, x * step, step, step) for y in range(parts) for x in range(parts)]


def _blob(side: int, rng: random.Random) -> np.ndarray:
    """Return a smooth random opacity mask, uint8 (side, side)."""
    generator = torch.Generator().manual_seed(rng.getrandbits(31))
    rough = torch.randn(1, 1, 4, 4, generator=generator) + 0.6
    smooth = F.interpolate(rough, size=(side, side), mode="bicubic", align_corners=True)[0, 0]
    return (smooth * 4).sigmoid().mul(255).byte().numpy()
