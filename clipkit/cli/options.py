"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from clipkit.library import Library, library_folder

Command = Callable[..., Any]


def library_options(command: Command) -> Command:
    """--name and --indexes: which library."""
    command = click.option("--name", default="default", show_default=True, help="The library's name.")(command)
    return click.option(
        "--indexes",
        type=click.Path(file_okay=False, path_type=Path),
        help="Where libraries live. [default: $CLIPKIT_INDEXES, ./indexes if it is there, your data folder]",
    )(command)


def json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def open_library(name: str, indexes: Path | None) -> Library:
    """The library of that name; LibraryNotFound says how to make one."""
    return Library.open(library_folder(name, indexes))
