"""`clipkit upscale`: enlarge a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from clipkit.cli.operation_options import (
    label_option,
    library_if_needed,
    output_option,
    pixels_of_longer_side,
    print_pictures,
    upscaler_option,
)
from clipkit.cli.options import device_option, json_option, library_options


@click.command()
@click.argument("picture")
@click.option(
    "--to",
    type=pixels_of_longer_side,
    metavar="PIXELS",
    help="Pixels of the longer side. [default: as many as the upscaler makes at a time, up to 4 times as many]",
)
@upscaler_option
@output_option("")
@label_option
@device_option
@json_option
@library_options
def upscale(picture: str, as_json: bool, library_path: Path, **options: Any) -> int:
    """Enlarge PICTURE, all of it.

    A network invents the detail: an enlarged photograph is marked as edited, and a generated picture stays marked as
    generated. Lanczos resampling, if it is named, invents nothing. PICTURE is a file, which is never overwritten, an
    http(s) URL, the id of a hit (`clipkit search --json`), or generated:N for a picture that `clipkit generated`
    lists. `clipkit decoders pull` downloads an upscaler. Without a library, give --output.
    """
    with library_if_needed(library_path, options) as library:
        if library is None:
            from clipkit.generation.operations.upscale import upscale as upscale_alone

            result = upscale_alone(picture, **options)
        else:
            result = library.upscale(picture, **options)
    print_pictures([result], as_json=as_json)
    return 0
