"""Edited copies of pictures, as they come back from mail, chats and image programs: to calibrate and test copies."""

from __future__ import annotations

import io
import random
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

Edit = Callable[[Image.Image, random.Random], Image.Image]


def _saved(quality: int) -> Edit:
    def edit(image: Image.Image, rng: random.Random) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file).convert("RGB")

    return edit


def _cropped(share: float) -> Edit:
    def edit(image: Image.Image, rng: random.Random) -> Image.Image:
        width, height = max(1, round(image.width * share)), max(1, round(image.height * share))
        x, y = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
        return image.crop((x, y, x + width, y + height))

    return edit


def _captioned(image: Image.Image, rng: random.Random) -> Image.Image:
    copy = image.copy()
    ImageDraw.Draw(copy).text((image.width // 40, image.height * 9 // 10), "summer 2024", fill="white")
    return copy


EDITS: dict[str, Edit] = {
    "JPEG quality 90": _saved(90),
    "JPEG quality 30": _saved(30),
    "half the size": lambda image, rng: image.resize((max(1, image.width // 2), max(1, image.height // 2))),
    "crop to 95%": _cropped(0.95),
    "crop to 85%": _cropped(0.85),
    "crop to 70%": _cropped(0.7),
    "brighter": lambda image, rng: ImageEnhance.Brightness(image).enhance(1.25),
    "less contrast": lambda image, rng: ImageEnhance.Contrast(image).enhance(0.8),
    "blurred": lambda image, rng: image.filter(ImageFilter.GaussianBlur(max(0.5, min(image.size) / 150))),
    "turned by 3 degrees": lambda image, rng: image.rotate(3, Image.Resampling.BICUBIC, fillcolor="white"),
    "mirrored": lambda image, rng: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "with a caption": _captioned,
    "grey": lambda image, rng: image.convert("L").convert("RGB"),
}
"""Edits of RGB pictures by name."""
