"""Render the sprite sheet of the sample world from the SVG drawings of Noto Emoji (Apache-2.0).

    python scripts/make_sprites.py icons.json

`icons.json` is the icon set of the npm package `@iconify-json/noto` (`npm pack @iconify-json/noto`). The names of the
drawings are in `clipkit/bundled/world/world.json`; `sprites.webp` is a grid of 128 px tiles in the order of that file.
Requires `pip install resvg_py`. Only needed when the world changes: the sheet is part of the repository.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import resvg_py
from PIL import Image

TILE, COLUMNS = 128, 12
WORLD = Path(__file__).parent.parent / "clipkit" / "bundled" / "world"


def main(icons_json: str) -> None:
    """Render the sheet and write it into the package."""
    icons = json.loads(Path(icons_json).read_text())
    objects = json.loads((WORLD / "world.json").read_text())["objects"]
    sheet = Image.new("RGBA", (COLUMNS * TILE, -(-len(objects) // COLUMNS) * TILE))
    for i, thing in enumerate(objects):
        icon = icons["icons"][thing["sprite"]]
        width, height = icon.get("width", icons["width"]), icon.get("height", icons["height"])
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=TILE, height=TILE))
        sheet.paste(Image.open(io.BytesIO(png)).convert("RGBA"), (i % COLUMNS * TILE, i // COLUMNS * TILE))
    sheet.save(WORLD / "sprites.webp", quality=92, alpha_quality=95, method=6)
    print(f"{len(objects)} sprites, {(WORLD / 'sprites.webp').stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
