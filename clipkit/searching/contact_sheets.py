"""Contact sheets of search results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from clipkit.errors import ClipkitError, UnreadableImage
from clipkit.images.contact_sheet import Tile, contact_sheet
from clipkit.images.decoding import open_picture
from clipkit.searching.query import in_words
from clipkit.searching.result import Hit, SearchResult

TILE_SIZE = 224
"""Side of a tile in pixels."""


def hits_sheet(result: SearchResult) -> Image.Image:
    """Return a sheet of all hits, labelled with name, cosine similarity and confidence; matches are framed."""
    return contact_sheet(_tiles(result, len(result)), title=_title(result), tile_size=TILE_SIZE)


def comparison_sheet(results: Sequence[tuple[str, SearchResult]], columns: int = 5) -> Image.Image:
    """Return a sheet with a titled row for each search: generated pictures, labelled as such, then the best hits."""
    rows = [
        contact_sheet(
            _tiles(result, columns)[:columns], title=title + _verdict(result), columns=columns, tile_size=TILE_SIZE
        )
        for title, result in results
    ]
    sheet = Image.new("RGB", (max(r.width for r in rows), sum(r.height for r in rows)), rows[0].getpixel((0, 0)))
    y = 0
    for row in rows:
        sheet.paste(row, (0, y))
        y += row.height
    return sheet


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a sheet in the format of the file extension. Raises ClipkitError if it cannot be written."""
    options: dict[str, Any] = {"quality": 90} if path.suffix.lower() in (".jpg", ".jpeg", ".webp") else {}
    try:
        sheet.save(path, **options)
    except (OSError, ValueError) as error:
        raise ClipkitError(f"cannot write the contact sheet {path}: {error}; use a name such as hits.jpg") from error


def _tiles(result: SearchResult, most: int) -> list[Tile]:
    generated = [
        Tile(_thumbnail(g.path), "generated, not found", f"by the decoder {g.decoder}, seed {g.seed}", warning=True)
        for g in result.generated
    ]
    return generated + [_tile(hit) for hit in result.hits[:most]]


def _tile(hit: Hit) -> Tile:
    remark = "away" if hit.away else hit.relation or hit.near_miss
    score = "" if remark else f"cosine {hit.score:.3f}, "  # a tile has space for two of the three
    note = f"{score}confidence {hit.confidence:.2f}" + (f", {remark}" if remark else "")
    return Tile(_thumbnail(hit.path), hit.path.name, note, emphasis=hit.matched)


def _thumbnail(path: Path) -> Image.Image:
    """Return the picture, or a grey tile if it cannot be read."""
    try:
        return open_picture(path, shortest_side=TILE_SIZE).image
    except UnreadableImage:
        return Image.new("RGB", (TILE_SIZE, TILE_SIZE), (128, 128, 128))


def _title(result: SearchResult) -> str:
    return in_words(result.query.to_json()) + _verdict(result)


def _verdict(result: SearchResult) -> str:
    if result.matched:
        return ""
    return "  (nothing matches: generated)" if result.generated else "  (nothing matches)"
