from __future__ import annotations

import pytest
from PIL import Image

from clipkit.images.contact_sheet import Tile, contact_sheet

from .make_files import corners


@pytest.mark.parametrize("count", [0, 1, 2, 7, 30])
def test_every_tile_is_on_the_sheet(count: int) -> None:
    colours = [(40 + 7 * n, 10, 200 - 6 * n) for n in range(count)]
    tiles = [Tile(Image.new("RGB", (50, 50), colour), f"picture {n}") for n, colour in enumerate(colours)]
    sheet = contact_sheet(tiles, title="a title", tile_size=64)
    assert sheet.mode == "RGB"
    present = {colour for _, colour in sheet.getcolors(maxcolors=1 << 20)}
    assert set(colours) <= present


def test_columns_and_shapes() -> None:
    tiles = [Tile(corners(300, 20), "wide"), Tile(corners(3, 500).convert("L"), "high"), Tile(corners(1, 1), "tiny")]
    one, three = contact_sheet(tiles, columns=1), contact_sheet(tiles, columns=3)
    assert one.height > one.width and three.width > three.height
    for wrong in ({"columns": 0}, {"tile_size": 3}):
        with pytest.raises(ValueError):
            contact_sheet(tiles, **wrong)


def test_labels_stay_inside_their_tile_and_accept_any_text() -> None:
    texts = ["x" * 5000, "\udcff\x00\n\t\u202e", "字 \N{GRINNING FACE}", ""]
    plain = contact_sheet([Tile(corners(), "") for _ in texts], columns=4, tile_size=100)
    sheet = contact_sheet(
        [Tile(corners(), text, text, True) for text in texts], title="t" * 999, columns=4, tile_size=100
    )
    assert sheet.width == plain.width
    # the gap between the first two columns is empty
    margin, gap = 100 // 8, 100 // 12
    strip = sheet.crop((margin + 100 + 3, sheet.height - 35, margin + 100 + gap - 3, sheet.height - margin))
    assert len(strip.getcolors()) == 1
