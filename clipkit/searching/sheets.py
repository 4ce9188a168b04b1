"""Hits as a picture to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from clipkit.errors import ClipkitError, UnreadableImage
from clipkit.images.contact_sheet import Tile, contact_sheet
from clipkit.images.decoding import open_picture
from clipkit.searching.result import Hit, SearchResult

TILE = 224


def hits_sheet(result: SearchResult) -> Image.Image:
    """All hits of a search, labelled with name, cosine similarity and confidence; matches are framed."""
    return contact_sheet(_tiles(result, len(result)), title=_title(result), tile_size=TILE)


def rows_sheet(results: Sequence[tuple[str, SearchResult]], columns: int = 5) -> Image.Image:
    """The best hits of several searches, one titled row each; what was made stands first, and says so."""
    rows = [
        contact_sheet(_tiles(r, columns)[:columns], title=t + _verdict(r), columns=columns, tile_size=TILE)
        for t, r in results
    ]
    sheet = Image.new("RGB", (max(r.width for r in rows), sum(r.height for r in rows)), rows[0].getpixel((0, 0)))
    y = 0
    for row in rows:
        sheet.paste(row, (0, y))
        y += row.height
    return sheet


def save(sheet: Image.Image, path: Path) -> None:
    """Writes a sheet; raises ClipkitError with one line if the name or the place is no good."""
    try:
        sheet.save(path, quality=90) if path.suffix.lower() in (".jpg", ".jpeg", ".webp") else sheet.save(path)
    except (OSError, ValueError) as error:
        raise ClipkitError(f"cannot write the contact sheet {path}: {error}; name it like hits.jpg") from error


def _tiles(result: SearchResult, most: int) -> list[Tile]:
    made = [
        Tile(_open(g.path), "made, not found", f"by the decoder {g.decoder}, seed {g.seed}", warning=True)
        for g in result.generated
    ]
    return made + [_tile(hit) for hit in result.hits[:most]]


def _tile(hit: Hit) -> Tile:
    note = f"cosine {hit.score:.3f}, confidence {hit.confidence:.2f}" + (", away" if hit.away else "")
    return Tile(_open(hit.path), hit.path.name, note, emphasis=hit.matched)


def _open(path: Path) -> Image.Image:
    try:
        return open_picture(path, shortest_side=TILE).image
    except UnreadableImage:
        return Image.new("RGB", (TILE, TILE), (128, 128, 128))


def _title(result: SearchResult) -> str:
    query = result.query
    parts = [query.text] if query.text else []
    parts += [f"like {Path(v).name}" if isinstance(v, str | Path) else "like a picture" for v in query.like]
    parts += [f"not {v}" if isinstance(v, str | Path) else "not a picture" for v in query.not_]
    return ", ".join(parts) + _verdict(result)


def _verdict(result: SearchResult) -> str:
    if result.matched:
        return ""
    return "  (nothing matches: made)" if result.generated else "  (nothing matches)"
