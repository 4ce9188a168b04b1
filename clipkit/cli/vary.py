"""`clipkit vary`: variations of a picture."""

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
from clipkit.cli.options import NumberRange


@click.command()
@click.argument("picture")
@count_option(4)
@click.option(
    "--strength",
    type=NumberRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Below 1 the variations keep the picture's layout too, the more the lower it is.",
)
@steps_option
@sampling_options
def vary(picture: str, count: int, strength: float, as_json: bool, library_path: Path, **options: Any) -> int:
    """Generate pictures that share what PICTURE shows.

    PICTURE is a file, an http(s) URL, the id of a hit (`clipkit search --json`), or generated:N for a picture that
    `clipkit generated` lists. Its embedding goes through the decoder. Without a library, give --decoder and --output.
    """
    with library_if_needed(library_path, options) as library:
        if library is None:
            from clipkit.generation.operations.vary import vary as vary_alone

            pictures = vary_alone(picture, count, strength=strength, **options)
        else:
            pictures = library.vary(picture, count, strength=strength, **options)
    print_pictures(pictures, as_json=as_json)
    return 0
