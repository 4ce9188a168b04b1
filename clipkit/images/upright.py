"""Sizes and turns: what the EXIF orientation and reduced decoding do to width and height."""

from __future__ import annotations

from PIL import Image

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return the picture as its photographer saw it, given its EXIF orientation (1 to 8)."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def draft_size(size: tuple[int, int], shortest_side: int) -> tuple[int, int]:
    """Return the smallest (width, height) of the same shape whose shorter side is at least `shortest_side` pixels."""
    width, height = size
    shorter = min(size)
    if shorter <= shortest_side:
        return size
    return -(-width * shortest_side // shorter), -(-height * shortest_side // shorter)
