"""Draw a contact sheet: labelled pictures in rows on one image."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

_PAPER, _CARD, _INK, _SOFT = "#f4f4f2", "#e6e6e3", "#1c1c1e", "#76767c"
_ACCENT, _WARNING = "#0a7d55", "#a3218e"
_FONT = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass
class Tile:
    """A picture on a sheet, with a `label` below it and a `note` (such as a score) below that.

    `emphasis` draws a coloured frame; `warning` draws one in another colour and colours the label too.
    """

    image: Image.Image
    label: str
    note: str = ""
    emphasis: bool = False
    warning: bool = False


def contact_sheet(
    tiles: Sequence[Tile], *, title: str = "", columns: int | None = None, tile_size: int = 224
) -> Image.Image:
    """Draw the tiles in rows and return the sheet as an RGB image.

    `tile_size`: side in pixels of the square that each picture is fitted into.
    `columns`: by default, such that the sheet is slightly wider than high.
    Text that does not fit ends in an ellipsis. Letters missing from Pillow's built-in font lose their accents; other
    missing characters become "?". Without tiles the sheet has only its title.
    """
    if tile_size < 16:
        raise ValueError(f"the tile size must be at least 16 pixels, not {tile_size}")
    if columns is not None and columns < 1:
        raise ValueError(f"a sheet needs at least 1 column, not {columns}")
    columns = columns or max(1, min(len(tiles), math.ceil(math.sqrt(len(tiles) * 1.3))))
    rows = math.ceil(len(tiles) / columns)
    gap, margin = max(6, tile_size // 12), max(10, tile_size // 8)
    label_font = ImageFont.load_default(max(9, round(tile_size / 15)))
    note_font = ImageFont.load_default(max(8, round(tile_size / 18)))
    title_font = ImageFont.load_default(max(12, round(tile_size / 8)))
    label_height = _height(label_font) if any(tile.label for tile in tiles) else 0
    note_height = _height(note_font) if any(tile.note for tile in tiles) else 0
    caption_gap = max(3, tile_size // 25) if label_height or note_height else 0
    cell_height = tile_size + caption_gap + label_height + note_height
    title_height = _height(title_font) + gap if title else 0

    width = 2 * margin + columns * tile_size + (columns - 1) * gap
    height = 2 * margin + title_height + rows * cell_height + max(0, rows - 1) * gap
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((margin, margin), _fit(title, title_font, width - 2 * margin), fill=_INK, font=title_font)
    for index, tile in enumerate(tiles):
        x = margin + index % columns * (tile_size + gap)
        y = margin + title_height + index // columns * (cell_height + gap)
        _draw_picture(sheet, draw, tile, x, y, tile_size)
        ink = _frame_colour(tile) or _INK
        text_y = y + tile_size + caption_gap
        draw.text((x, text_y), _fit(tile.label, label_font, tile_size), fill=ink, font=label_font)
        draw.text((x, text_y + label_height), _fit(tile.note, note_font, tile_size), fill=_SOFT, font=note_font)
    return sheet


def _frame_colour(tile: Tile) -> str | None:
    if tile.warning:
        return _WARNING
    return _ACCENT if tile.emphasis else None


def _draw_picture(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, x: int, y: int, tile_size: int) -> None:
    frame = max(2, tile_size // 56)
    radius = max(3, tile_size // 28)
    if colour := _frame_colour(tile):
        outside = (x - frame - 1, y - frame - 1, x + tile_size + frame, y + tile_size + frame)
        draw.rounded_rectangle(outside, radius + frame, fill=colour)
    picture = tile.image if tile.image.mode == "RGB" else tile.image.convert("RGB")
    scale = tile_size / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    card = Image.new("RGB", (tile_size, tile_size), _CARD)
    card.paste(picture, ((tile_size - size[0]) // 2, (tile_size - size[1]) // 2))
    sheet.paste(card, (x, y), _rounded_mask(tile_size, radius))


def _rounded_mask(side: int, radius: int) -> Image.Image:
    """Return a mask with smooth rounded corners, drawn at four times the size and reduced."""
    large = Image.new("L", (side * 4, side * 4), 0)
    ImageDraw.Draw(large).rounded_rectangle((0, 0, side * 4 - 1, side * 4 - 1), radius * 4, fill=255)
    return large.reduce(4)


def _height(font: _FONT) -> int:
    top, bottom = font.getbbox("Ágjp|")[1::2]
    return math.ceil(bottom + max(2, (bottom - top) * 0.15))


def _fit(text: str, font: _FONT, width: int) -> str:
    """Shorten a text to `width` pixels, with an ellipsis if it is cut."""
    text = "".join(_drawable(character) for character in text[:500])
    ellipsis = _drawable("\N{HORIZONTAL ELLIPSIS}")
    if font.getlength(text) <= width:
        return text
    shortest, longest = 0, len(text)
    while shortest < longest:
        middle = (shortest + longest + 1) // 2
        if font.getlength(text[:middle].rstrip() + ellipsis) <= width:
            shortest = middle
        else:
            longest = middle - 1
    return text[:shortest].rstrip() + ellipsis


@lru_cache(maxsize=4096)
def _drawable(character: str) -> str:
    """Return a character that the built-in font, mostly ASCII, can draw."""
    font = ImageFont.load_default(20)
    if isinstance(font, ImageFont.ImageFont):  # Pillow without FreeType has only a bitmap font
        return character if character.isascii() and character.isprintable() else "?"
    if character == " ":
        return character
    for candidate in (character, unicodedata.normalize("NFKD", character)[0]):
        if candidate.isprintable() and bytes(font.getmask(candidate)) != bytes(font.getmask("\uffff")):
            return candidate
    return "?"
