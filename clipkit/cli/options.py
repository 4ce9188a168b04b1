"""Options that several commands share."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from clipkit.library import Library

Command = Callable[..., Any]


class NumberRange(click.FloatRange):
    """A range of numbers that rejects NaN, which click's own accepts because it compares false with both ends."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the value as a float; fail if it is NaN or out of range."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number in the range {self._describe_range()}.", param, ctx)
        return number


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Device to run models on; auto takes a CUDA GPU, else Apple's MPS, else the CPU.",
)

library_model_option = click.option(
    "--model",
    metavar="ID",
    help="Model whose embeddings to use, one of those in the library. [default: the library's default model]",
)


def library_options(command: Command) -> Command:
    """Add --name and --indexes, and pass the folder of the library as `library_path`; it need not exist.

    The command raises ClipkitError if the name is not valid as a folder's name.
    """

    @click.option(
        "--indexes",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder that holds your libraries. [default: $CLIPKIT_INDEXES, else ./indexes if it exists, else your "
        "user data folder]",
    )
    @click.option("--name", default="default", show_default=True, help="Name of the library.")
    @functools.wraps(command)
    def with_library_path(*arguments: Any, name: str, indexes: Path | None, **options: Any) -> Any:
        from clipkit.catalog.layout import library_folder

        return command(*arguments, library_path=library_folder(name, indexes), **options)

    return with_library_path


def open_library(library_path: Path) -> Library:
    """Open the library in a folder. Raises LibraryNotFound, which says how to create one."""
    from clipkit.library import Library

    return Library.open(library_path)


also_option = click.option(
    "--also", multiple=True, metavar="TEXT", help="Further words that count on their own; repeatable."
)

avoid_option = click.option(
    "--not",
    "not_",
    multiple=True,
    metavar="TEXT|IMAGE",
    help="What to avoid: words, an image file or a URL; repeatable.",
)


def query_options(command: Command) -> Command:
    """Add TEXT, --also, --like, --not and --weight, and pass the query that they describe as `query`.

    The command raises BadQuery if the query is empty or has wrong weights.
    """

    @click.argument("text", required=False, default="")
    @also_option
    @click.option(
        "--like",
        multiple=True,
        metavar="IMAGE|URL",
        help="A picture to resemble: a file, or an http(s) URL; repeatable.",
    )
    @avoid_option
    @click.option(
        "--weight",
        "weights",
        multiple=True,
        type=float,
        metavar="W",
        help="Weight of a term, above 0; repeat it for further terms, in the order TEXT, every --also, every --like, "
        "every --not. Only the ratio counts. [default: 1, and 0.5 for --not]",
    )
    @functools.wraps(command)
    def with_query(
        *arguments: Any,
        text: str,
        also: tuple[str, ...],
        like: tuple[str, ...],
        not_: tuple[str, ...],
        weights: tuple[float, ...],
        **options: Any,
    ) -> Any:
        from clipkit.searching.query import Query, is_url

        pictures = tuple(picture if is_url(picture) else Path(picture) for picture in like)
        query = Query(text=text, also=also, like=pictures, not_=not_, weights=weights)
        return command(*arguments, query=query, **options)

    return with_query
