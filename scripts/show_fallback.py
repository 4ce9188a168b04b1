"""Render docs/missing.jpg: ten searches of the demo library that match nothing, and the image generated for each.

clipkit demo DIR && python scripts/show_fallback.py DIR/indexes/default
"""

from __future__ import annotations

from pathlib import Path

import click
from PIL import Image

from clipkit import Library
from clipkit.images.contact_sheet import Tile, contact_sheet

QUERIES = (
    "a whale in the city",
    "a helicopter in the snow",
    "a violin on the beach",
    "a pineapple in the forest",
    "a helicopter at night",
    "a violin in space",
    "a whale in the desert",
    "a pineapple at sunset",
    "a helicopter in the mountains",
    "a violin in a room",
)


@click.command()
@click.argument("library", type=click.Path(path_type=Path, exists=True))
@click.option("-o", "output", type=click.Path(path_type=Path), default=Path("docs/missing.jpg"), show_default=True)
def main(library: Path, output: Path) -> None:
    """Run the searches and lay the generated images out on one sheet."""
    tiles = []
    with Library.open(library) as lib:
        lib.remove_generated()
        for query in QUERIES:
            result = lib.search(query, generate="auto")
            print(query, "matched" if result.matched else "no match", *(image.path for image in result.generated))
            for generated in result.generated:
                with Image.open(generated.path) as image:
                    tiles.append(Tile(image.convert("RGB"), query, f"generated, seed {generated.seed}", warning=True))
    contact_sheet(tiles, columns=5, tile_size=192).save(output, quality=88)


if __name__ == "__main__":
    main()
