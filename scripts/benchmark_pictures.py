"""JPEG files as a camera makes them, as far as decoding can tell; and empty files that stand for a large library."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

FILES_PER_FOLDER = 1000
WHEN = 1_700_000_000 * 10**9
"""The modification time of all empty files, in ns."""


def write_photos(folder: Path, count: int, width: int, height: int, seed: int) -> None:
    """Write `count` JPEG files of quality 90, unless they are there already.

    Each is a sum of smooth noise at all scales with amplitudes as in photographs (power falls with the square of the
    frequency), different in each channel, some hard edges, and sensor noise: about two bits a pixel, as photographs
    have. The entropy decoder's work grows with the bits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        path = folder / f"{i:04}.jpg"
        if not path.exists():
            unfinished = path.with_suffix(".new")
            photo(np.random.default_rng([seed, i]), width, height).save(unfinished, "JPEG", quality=90)
            os.replace(unfinished, path)


def photo(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Draw one picture, RGB."""
    total = np.zeros((height, width, 3), np.float32)
    cells = 4
    while cells < max(width, height):
        shape = (max(2, cells * height // max(width, height)), max(2, cells * width // max(width, height)))
        noise = rng.standard_normal((*shape, 1)) + 0.4 * rng.standard_normal((*shape, 3))
        coarse = np.clip(128 + 40 * noise, 0, 255).astype(np.uint8)
        layer = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        total += (np.asarray(layer, np.float32) - 128) * (8 / cells) ** 0.75
        cells *= 2
    for _ in range(12):
        top, left = rng.integers(0, height), rng.integers(0, width)
        patch = total[top : top + height // 4, left : left + width // 5]
        patch += rng.uniform(-45, 45, 3).astype(np.float32)
    total += rng.standard_normal((height, width, 1), np.float32) * 4
    return Image.fromarray(np.clip(total * 0.7 + 118, 0, 255).astype(np.uint8))


def empty_files(folder: Path, count: int) -> None:
    """Create `count` empty files named as `empty_file` names them, unless they are there."""
    for start in range(0, count, FILES_PER_FOLDER):
        part = empty_file(folder, start).parent
        part.mkdir(parents=True, exist_ok=True)
        wanted = min(FILES_PER_FOLDER, count - start)
        if len(os.listdir(part)) < wanted:
            for i in range(start, start + wanted):
                path = empty_file(folder, i)
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
                os.utime(path, ns=(WHEN, WHEN))


def empty_file(folder: Path, number: int) -> Path:
    """Return the path of an empty file: a thousand in each folder, as cameras and photo tools make them."""
    return folder / f"{number // FILES_PER_FOLDER:04}" / f"IMG_{number:08}.jpg"
