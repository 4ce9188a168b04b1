"""`clipkit spaces`: the spaces of a library."""

from __future__ import annotations

import json
from pathlib import Path

import click

from clipkit.cli.options import json_option, library_options, open_library
from clipkit.cli.printing import say


@click.group()
def spaces() -> None:
    """The spaces of a library: each is one model's view of its pictures. `clipkit index --model ID` adds one."""


@spaces.command(name="list")
@library_options
@json_option
def list_spaces(name: str, indexes: Path | None, as_json: bool) -> int:
    """List a library's spaces, and how many of its pictures each covers. The first is searched by default."""
    with open_library(name, indexes) as library:
        covered = library.models()
    if as_json:
        click.echo(json.dumps([space.to_json() for space in covered]))
        return 0
    for space in covered:
        default = "  default" if space.default else ""
        say(f"{space.model:40} {space.dimension:5} d  {space.embedded:,} of {space.pictures:,} pictures{default}")
    return 0


@spaces.command()
@click.argument("space", metavar="ID")
@library_options
def default(space: str, name: str, indexes: Path | None) -> int:
    """Search in this space unless --space names another."""
    with open_library(name, indexes) as library:
        library.use_model(space)
        say(f"library {library.name!r} is searched in {library.model}")
    return 0


@spaces.command()
@click.argument("space", metavar="ID")
@library_options
def remove(space: str, name: str, indexes: Path | None) -> int:
    """Take a space out of a library: its embeddings and its search index. The last one stays."""
    with open_library(name, indexes) as library:
        removed = library.remove_model(space)
        say(f"{removed:,} embeddings of {space} removed from library {library.name!r}")
    return 0
