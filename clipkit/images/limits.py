"""Limits on what a file may ask for, checked before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clipkit.errors import UnreadableImage


@dataclass(frozen=True)
class Limits:
    """Upper limits: `pixels` of the decoded frame, `bytes` of the file."""

    pixels: int = 300_000_000
    bytes: int = 2 * 1024**3


def check_file_size(path: Path, size: int, max_bytes: int) -> None:
    """Raise `UnreadableImage` if a file of `size` bytes exceeds `max_bytes`."""
    if size > max_bytes:
        raise UnreadableImage(path, "too-large", f"the file has {size:,} bytes; the limit is {max_bytes:,}")


def check_pixels(path: Path, width: int, height: int, max_pixels: int) -> None:
    """Raise `UnreadableImage` if a picture of this size exceeds `max_pixels`."""
    if width * height > max_pixels:
        reason = f"it has {width:,} x {height:,} pixels; the limit is {max_pixels:,}"
        raise UnreadableImage(path, "too-large", reason)
