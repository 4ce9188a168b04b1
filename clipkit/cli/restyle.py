"""`clipkit restyle`: a picture changed from what one text says to what another says."""

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
@click.option("--from", "from_", required=True, metavar="TEXT", help='What to change, such as "a cat".')
@click.option("--to", required=True, metavar="TEXT", help='What to change it into, such as "a dog".')
@count_option(1)
@click.option(
    "--amount",
    type=NumberRange(0, 1, min_open=True),
    help="How far to turn the picture's embedding; 0.25 to 0.5 is usual, 1 turns it all the way. [default: 0.45]",
)
@click.option(
    "--strength",
    type=NumberRange(0, 1, min_open=True),
    help="How little of the picture's layout to keep; 1 keeps nothing. [default: 0.95]",
)
@steps_option
@sampling_options
def restyle(picture: str, from_: str, to: str, count: int, as_json: bool, library_path: Path, **options: Any) -> int:
    """Change PICTURE from what one text says to what another says.

    PICTURE is a file, an http(s) URL, the id of a hit (`clipkit search --json`), or generated:N for a picture that
    `clipkit generated` lists. The file itself is left alone: a new picture is generated. Its layout is kept, and its
    embedding is turned by the difference of the texts, as in DALL-E 2's text diffs. Without a library, give --decoder
    and --output.
    """
    with library_if_needed(library_path, options) as library:
        if library is None:
            from clipkit.generation.operations.restyle import restyle as restyle_alone

            pictures = restyle_alone(picture, from_, to, count, **options)
        else:
            pictures = library.restyle(picture, from_, to, count, **options)
    print_pictures(pictures, as_json=as_json)
    return 0
