"""Draw heat over a picture, readable with any colour vision and in print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from clipkit.images.contact_sheet import Tile, contact_sheet

Floats = NDArray[np.float32]

SIDE = 384
"""Side of a panel in pixels."""
COLOURS = (
    *((0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99)),
    *((212, 72, 66), (245, 125, 21), (250, 193, 39), (252, 255, 164)),
)
"""Colours from cold to hot, whose lightness rises evenly, so that people with any colour vision, and greyscale
printers, keep their order: those of "inferno" (Smith & van der Walt, https://bids.github.io/colormap/, CC0)."""
CONTOUR = 0.5
"""Heat at which an outline is drawn."""


@dataclass(frozen=True)
class Panel:
    """A heat map, (rows, columns) in [0, 1] over the whole picture, with a label and a note."""

    heat: Floats
    label: str
    note: str


def draw_heat(
    picture: Tile, panels: Sequence[Panel], seen: tuple[float, float, float, float], title: str
) -> Image.Image:
    """Return a sheet with the picture, the picture with the heat of each panel over it, and a legend.

    seen: (left, top, right, bottom) in fractions of the picture's sides; the rest is hatched.
    """
    tiles = [picture, *(Tile(overlay(picture.image, p.heat, seen), p.label, p.note) for p in panels)]
    sheet = contact_sheet(tiles, title=title, columns=min(len(tiles), 3), tile_size=SIDE)
    return _with_legend(sheet, unseen=seen != (0.0, 0.0, 1.0, 1.0))


def overlay(picture: Image.Image, heat: Floats, seen: tuple[float, float, float, float]) -> Image.Image:
    """Return the picture in grey with the heat in colour over it, outlined at `CONTOUR`; hatched where it is unseen."""
    size = picture.size
    scale = SIDE / max(size)
    size = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    grey = np.asarray(picture.convert("L").resize(size, Image.Resampling.LANCZOS), np.float32)[..., None]
    smooth = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    share = (0.35 + 0.35 * smooth)[..., None]
    mixed = (1 - share) * grey + share * _coloured(smooth)
    hot = smooth >= CONTOUR
    edge = hot & ~_eroded(hot)
    mixed[edge] = 255
    x, y = (np.arange(size[0]) + 0.5) / size[0], (np.arange(size[1]) + 0.5) / size[1]
    outside = ~np.outer((y >= seen[1]) & (y <= seen[3]), (x >= seen[0]) & (x <= seen[2]))
    stripes = (np.add.outer(np.arange(size[1]), np.arange(size[0])) // 5) % 2 == 0
    mixed = np.where(outside[..., None], np.where(stripes[..., None], 200.0, 0.6 * grey + 60), mixed)
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


def _coloured(heat: Floats) -> Floats:
    steps = np.linspace(0, 1, len(COLOURS))
    channels = [np.interp(heat, steps, [colour[channel] for colour in COLOURS]) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def _eroded(mask: np.ndarray) -> np.ndarray:
    """Return a mask without its outermost two pixels."""
    inner = np.pad(mask, 2, constant_values=True)
    height, width = mask.shape
    shifts = ((0, 2), (4, 2), (2, 0), (2, 4))
    return np.logical_and.reduce([inner[dy : dy + height, dx : dx + width] for dy, dx in shifts])


def _with_legend(sheet: Image.Image, *, unseen: bool) -> Image.Image:
    """Return the sheet with a bar of all colours below it, and what they mean."""
    height, margin, bar = 56, SIDE // 8, 220
    result = Image.new("RGB", (sheet.width, sheet.height + height), sheet.getpixel((0, 0)))
    result.paste(sheet)
    ramp = np.broadcast_to(_coloured(np.linspace(0, 1, bar, dtype=np.float32)), (16, bar, 3))
    top = sheet.height - margin // 2 + 8
    result.paste(Image.fromarray(ramp.astype(np.uint8)), (margin, top))
    font = ImageFont.load_default(14)
    draw = ImageDraw.Draw(result)
    half = margin + bar // 2
    draw.line((half, top, half, top + 16), fill="white", width=2)
    draw.text((margin, top + 20), "least", fill="#1c1c1e", font=font)
    draw.text((margin + bar, top + 20), "most of what is asked for", fill="#1c1c1e", font=font, anchor="ra")
    words = "white outline: half of full heat"
    words += "; hatched: not seen by the model" if unseen else ""
    draw.text((margin + bar + 16, top), words, fill="#1c1c1e", font=font)
    return result
