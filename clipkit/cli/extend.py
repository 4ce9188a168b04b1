"""`clipkit extend`: continue a picture beyond its edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from clipkit.cli.operation_options import (
    count_option,
    library_if_needed,
    print_pictures,
    sampling_options,
    steps_option,
)

_pixels = click.IntRange(0, 16_384)


@click.command()
@click.argument("picture")
@click.argument("text", default="")
@click.option("--left", type=_pixels, default=0, help="Pixels to add on the left.")
@click.option("--right", type=_pixels, default=0, help="Pixels to add on the right.")
@click.option("--top", type=_pixels, default=0, help="Pixels to add above.")
@click.option("--bottom", type=_pixels, default=0, help="Pixels to add below.")
@count_option(1)
@steps_option
@sampling_options
def extend(picture: str, text: str, count: int, as_json: bool, library_path: Path, **options: Any) -> int:
    """Continue a picture beyond its edges.

    The new parts show what TEXT says, or more of the same. All pixels of PICTURE are kept as they are. It is a file,
    which is never overwritten, an http(s) URL, the id of a hit (`clipkit search --json`), or generated:N for a picture
    that `clipkit generated` lists. The result is marked as edited. --size is the side at which the decoder paints each
    tile. Without a library, give --decoder and --output.
    """
    with library_if_needed(library_path, options) as library:
        if library is None:
            from clipkit.generation.operations.extend import extend as extend_alone

            pictures = extend_alone(picture, text, count=count, **options)
        else:
            pictures = library.extend(picture, text, count, **options)
    print_pictures(pictures, as_json=as_json)
    return 0
