"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from clipkit.catalog.layout import library_folder
from clipkit.library import Library
from clipkit.searching.query import Query, is_url

Command = Callable[..., Any]


class NumberRange(click.FloatRange):
    """A range of numbers. click's own lets NaN through, because it compares false with both ends."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number in the range {self._describe_range()}.", param, ctx)
        return number


def library_options(command: Command) -> Command:
    """--name and --indexes: which library."""
    command = click.option("--name", default="default", show_default=True, help="The library's name.")(command)
    return click.option(
        "--indexes",
        type=click.Path(file_okay=False, path_type=Path),
        help="Where libraries live. [default: $CLIPKIT_INDEXES, ./indexes if it is there, your data folder]",
    )(command)


def query_options(command: Command) -> Command:
    """TEXT, --like, --not and --weight: what `query_of` makes a query of."""
    for decorate in (
        click.option(
            "--weight", "weights", multiple=True, type=float, metavar="W",
            help="A weight a term, in the order TEXT, every --like, every --not. [default: 1, and 0.5 for --not]",
        ),
        click.option("--not", "not_", multiple=True, metavar="TEXT|IMAGE", help="What to avoid; repeatable."),
        click.option("--like", multiple=True, metavar="IMAGE|URL", help="A picture to resemble; repeatable."),
        click.argument("text", required=False, default=""),
    ):  # fmt: skip
        command = decorate(command)
    return command


def query_of(text: str, like: tuple[str, ...], not_: tuple[str, ...], weights: tuple[float, ...]) -> Query:
    """The query that these options ask; raises BadQuery."""
    pictures = tuple(picture if is_url(picture) else Path(picture) for picture in like)
    return Query(text=text, like=pictures, not_=not_, weights=weights)


def json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def open_library(name: str, indexes: Path | None) -> Library:
    """The library of that name; LibraryNotFound says how to make one."""
    return Library.open(library_folder(name, indexes))
