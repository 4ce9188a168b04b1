"""The visible mark: a small line of text in a corner of what a model painted."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GENERATED, EDITED = "AI-generated", "AI-edited"
_HEIGHT = 1 / 24
"""Height of the text as a share of the picture's shorter side."""
_SMALLEST = 8


def draw_label(image: Image.Image, text: str, painted: np.ndarray | None = None) -> Image.Image:
    """Return the picture with a line of text in its lower right corner, white on a dark strip.

    `painted`: bool (h, w); the label is in the corner of the box around these pixels, and changes no others. In a small
    box the text is smaller, down to 8 pixels, below which it is cut off.
    """
    left, right, bottom = 0, image.width, image.height
    if painted is not None:
        rows, columns = np.flatnonzero(painted.any(1)), np.flatnonzero(painted.any(0))
        left, right, bottom = int(columns[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    size = max(_SMALLEST, round(_HEIGHT * min(image.size)))
    font = ImageFont.load_default(size)
    while size > _SMALLEST and font.getlength(text) + size > right - left:
        size -= 1
        font = ImageFont.load_default(size)
    width, height = round(font.getlength(text)) + size, round(1.6 * size)
    x, y = right - width, bottom - height
    labelled = image.convert("RGB")
    ImageDraw.Draw(labelled).rectangle((x, y, right - 1, bottom - 1), fill=(24, 24, 24))
    ImageDraw.Draw(labelled).text((x + width / 2, y + height / 2), text, fill=(255, 255, 255), font=font, anchor="mm")
    if painted is None:
        return labelled
    return Image.composite(labelled, image.convert("RGB"), Image.fromarray(painted.astype(np.uint8) * 255))
