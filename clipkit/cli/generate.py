"""`clipkit generate`: generate pictures of a query."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clipkit.cli.options import NumberRange, device_option, json_option, library_options, open_library, query_options
from clipkit.cli.printing import notify, printable, say, say_json
from clipkit.cli.progress import progress_bar
from clipkit.errors import LibraryNotFound

if TYPE_CHECKING:
    from clipkit.searching.query import Query


@click.command()
@query_options
@click.option("-n", "count", type=click.IntRange(1, 1000), default=1, show_default=True, help="Number of pictures.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    help="Seed of the first picture; each further one adds 1. The same seed gives the same file on the same machine. "
    "[default: random]",
)
@click.option("--steps", type=click.IntRange(1, 1000), help="Denoising steps. [default: the decoder's]")
@click.option(
    "--guidance",
    type=NumberRange(0, 100),
    help="Scale of classifier-free guidance. [default: the decoder's]",
)
@click.option("--size", type=click.IntRange(16, 4096), help="Side of the pictures in pixels. [default: the decoder's]")
@click.option(
    "--decoder",
    metavar="ID|FOLDER",
    help="Decoder to use, see `clipkit decoders list`; downloaded if it is not on this machine. [default: the one for "
    "the library's models]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this PNG, JPEG or WebP file; with -n, files are numbered. [default: the library's folder of "
    "generated pictures]",
)
@click.option(
    "--route",
    type=click.Choice(["auto", "bridge"]),
    default="auto",
    show_default=True,
    help="How pictures of the query reach the decoder. auto takes their embeddings from the library, else the "
    "decoder's image tower, else a bridge; bridge takes the bridge even if the image tower is here.",
)
@click.option("--explain", is_flag=True, help="Print the route of every term on stderr; --json always has it.")
@device_option
@json_option
@library_options
def generate(
    query: Query,
    count: int,
    output: Path | None,
    explain: bool,
    as_json: bool,
    library_path: Path,
    **options: Any,
) -> int:
    """Generate pictures from words, pictures, or both.

    Every picture is marked as AI-generated; `clipkit verify` reads the marks. Pictures are recorded in the library,
    see `clipkit generated`. Without a library, give --decoder and --output.
    """
    with progress_bar() as progress:
        options |= {"output": output, "say": notify, "progress": progress}
        try:
            library = open_library(library_path)
        except LibraryNotFound:
            from clipkit.generation.generate import generate as generate_alone

            if not (options["decoder"] and output):
                raise
            pictures = generate_alone(query, count, **options)
        else:
            with library:
                pictures = library.generate(query, count, **options)
    for leg in pictures[0].route if explain else ():
        say(f"route: {printable(leg['term'])}: {leg['route']}, through {leg['through']}", err=True)
    if as_json:
        say_json([picture.to_json() for picture in pictures])
    for picture in pictures if not as_json else ():
        say(printable(picture.path))
    return 0
