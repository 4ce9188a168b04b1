"""Options and output that the commands share which make pictures of pictures."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clipkit.cli.options import NumberRange, device_option, json_option, library_options, open_library
from clipkit.cli.printing import notify, printable, say, say_json
from clipkit.cli.progress import progress_bar
from clipkit.errors import LibraryNotFound

if TYPE_CHECKING:
    from clipkit.catalog.generated import Generated
    from clipkit.library import Library

Command = Callable[..., Any]


def count_option(default: int) -> Callable[[Command], Command]:
    """Add -n, the number of pictures, as `count`."""
    return click.option(
        "-n",
        "--count",
        "count",
        type=click.IntRange(1, 1000),
        default=default,
        show_default=True,
        help="Number of pictures.",
    )


steps_option = click.option("--steps", type=click.IntRange(1, 1000), help="Denoising steps. [default: the decoder's]")


pixels_of_longer_side = click.IntRange(16, 16_384)

upscaler_option = click.option(
    "--upscaler",
    metavar="ID|FOLDER",
    help="Network that enlarges, see `clipkit decoders list`, or lanczos, which invents no detail. [default: the one "
    "on this machine that suits the picture]",
)

label_option = click.option(
    "--label", is_flag=True, help="Write a visible mark too: a small line of text in a corner of what is new."
)


def output_option(files: str) -> Callable[[Command], Command]:
    """Add -o, the file to write."""
    return click.option(
        "-o",
        "--output",
        type=click.Path(dir_okay=False, path_type=Path),
        help=f"Write to this PNG, JPEG or WebP file{files}. [default: the library's folder of generated pictures]",
    )


safety_option = click.option(
    "--safety/--no-safety",
    default=None,
    help="Whether to check query and pictures against the list of refused concepts, see `clipkit decoders safety`. "
    "[default: on, but off for tiny]",
)


def sampling_options(command: Command) -> Command:
    """Add the options of a decoder, --upscale, --upscaler, --output, --label, --safety, --device, --json, and the
    library's."""

    @click.option(
        "--seed",
        type=click.IntRange(0),
        help="Seed of the first picture; each further one adds 1. The same seed gives the same file on the same "
        "machine. [default: random]",
    )
    @click.option(
        "--guidance",
        type=NumberRange(0, 100),
        help="Scale of classifier-free guidance. [default: the decoder's]",
    )
    @click.option(
        "--size", type=click.IntRange(16, 4096), help="Side of the pictures in pixels. [default: the decoder's]"
    )
    @click.option(
        "--decoder",
        metavar="ID|FOLDER",
        help="Decoder to use, see `clipkit decoders list`; downloaded if it is not on this machine. [default: the one "
        "for the library's models]",
    )
    @output_option("; several files are numbered")
    @click.option(
        "--route",
        type=click.Choice(["auto", "bridge"]),
        default="auto",
        show_default=True,
        help="How pictures reach the decoder. auto takes their embeddings from the library, else the decoder's image "
        "tower, else a bridge; bridge takes the bridge even if the image tower is here.",
    )
    @click.option(
        "--upscale",
        type=pixels_of_longer_side,
        metavar="PIXELS",
        help="Enlarge each picture to this many pixels of its longer side, as `clipkit upscale` does.",
    )
    @upscaler_option
    @label_option
    @safety_option
    @device_option
    @json_option
    @library_options
    @functools.wraps(command)
    def with_options(*arguments: Any, **options: Any) -> Any:
        return command(*arguments, **options)

    return with_options


@contextmanager
def library_if_needed(path: Path, options: dict[str, Any]) -> Iterator[Library | None]:
    """Open the library; None if there is none and the options name a file, and a decoder if they have one.

    Adds progress and notes to the options. Raises LibraryNotFound.
    """
    with progress_bar() as progress:
        options |= {"say": notify, "progress": progress}
        try:
            library = open_library(path)
        except LibraryNotFound:
            if not (options["output"] and options.get("decoder", True)):
                raise
            yield None
        else:
            with library:
                yield library


def print_pictures(pictures: Sequence[Generated], *, as_json: bool) -> None:
    """Print the paths of pictures, or everything about them."""
    if as_json:
        say_json([picture.to_json() for picture in pictures])
    for picture in pictures if not as_json else ():
        say(printable(picture.path))
