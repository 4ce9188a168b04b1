"""`clipkit models use` and `remove`: which models a library holds, and which one it is searched with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipkit.cli.options import library_options, open_library
from clipkit.cli.printing import say
from clipkit.errors import LibraryNotFound

if TYPE_CHECKING:
    from clipkit.catalog.coverage import ModelCoverage


@click.command()
@click.argument("model", metavar="ID")
@library_options
def use(model: str, library_path: Path) -> int:
    """Make a model the default of a library.

    Searches then use it unless --model names another. The library must hold it: `clipkit index --model ID` adds it.
    """
    with open_library(library_path) as library:
        library.use_model(model)
        say(f"library {library.name!r} is now searched with {library.model}")
    return 0


@click.command()
@click.argument("model", metavar="ID")
@library_options
def remove(model: str, library_path: Path) -> int:
    """Delete a model's embeddings from a library.

    Deletes its search index too. The only model of a library cannot be removed. The model itself stays on this
    machine.
    """
    with open_library(library_path) as library:
        removed = library.remove_model(model)
        say(f"{removed:,} embeddings of {model} removed from library {library.name!r}")
    return 0


def coverage_of(library_path: Path) -> list[ModelCoverage]:
    """Return the models of a library, the default one first, and their coverage; empty if there is no library."""
    try:
        with open_library(library_path) as library:
            return library.models()
    except LibraryNotFound:
        return []


def print_coverage(name: str, models: Sequence[ModelCoverage]) -> None:
    """Print how many pictures of a library each of its models covers."""
    say(f"Library {name!r}:")
    for model in models:
        pictures = f"{model.embedded:,} of {model.pictures:,} pictures"
        say(f"  {model.model:54} {model.dimension:5}  {pictures}{'  default' if model.default else ''}")
