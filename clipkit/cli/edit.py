"""`clipkit edit`: paint something into a part of a picture."""

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


class Box(click.ParamType):
    """A box as X,Y,W,H in whole pixels."""

    name = "box"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the four numbers; fail if there are not four."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != 4:
            self.fail(f"{value!r} is not X,Y,W,H: left and upper edge, width and height, in pixels", param, ctx)
        return numbers


@click.command()
@click.argument("picture")
@click.argument("text")
@click.option("--box", type=Box(), metavar="X,Y,W,H", help="The box to repaint, in pixels of the upright picture.")
@click.option(
    "--mask",
    metavar="FILE",
    help="A picture of the same shape, white where PICTURE is repainted and black where it is kept.",
)
@count_option(1)
@steps_option
@sampling_options
def edit(
    picture: str,
    text: str,
    box: tuple[int, ...] | None,
    mask: str | None,
    count: int,
    as_json: bool,
    library_path: Path,
    **options: Any,
) -> int:
    """Paint what TEXT says into a box or a mask of PICTURE.

    All other pixels are kept as they are. PICTURE is a file, which is never overwritten, an http(s) URL, the id of a
    hit (`clipkit search --json`), or generated:N for a picture that `clipkit generated` lists. The result is marked as
    edited. --size is the side at which the decoder paints. Without a library, give --decoder and --output.
    """
    with library_if_needed(library_path, options) as library:
        if library is None:
            from clipkit.generation.operations.edit import edit as edit_alone

            pictures = edit_alone(picture, text, box=box, mask=mask, count=count, **options)
        else:
            pictures = library.edit(picture, text, count, box=box, mask=mask, **options)
    print_pictures(pictures, as_json=as_json)
    return 0
