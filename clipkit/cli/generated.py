"""`clipkit generated`: the pictures that a library has generated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipkit.cli.opening import open_files
from clipkit.cli.options import json_option, library_options, open_library
from clipkit.cli.printing import print_facts, printable, say, say_json

if TYPE_CHECKING:
    from clipkit.catalog.generated import Generated
    from clipkit.library import Library


@click.group(invoke_without_command=True)
@click.pass_context
@library_options
@json_option
def generated(context: click.Context, library_path: Path, as_json: bool) -> int | None:
    """List, show, open and remove generated pictures.

    Without a command, lists them, oldest first: number, time (UTC), decoder, seed, query and file. The commands take
    these numbers; --name and --indexes come before the command.
    """
    context.obj = library_path
    if context.invoked_subcommand:
        return None
    with open_library(library_path) as library:
        pictures = library.generated()
    if as_json:
        say_json([picture.to_json() for picture in pictures])
    for picture in pictures if not as_json else ():
        say(_line(picture))
    return 0


@generated.command("open")
@click.argument("numbers", nargs=-1, type=int, required=True, metavar="NUMBER...")
@click.pass_obj
def open_(library_path: Path, numbers: tuple[int, ...]) -> int:
    """Open generated pictures in the system's image viewer."""
    with open_library(library_path) as library:
        pictures = _pictures(library, numbers)
    open_files([picture.path for picture in pictures])
    return 0


@generated.command()
@click.argument("numbers", nargs=-1, type=int, required=True, metavar="NUMBER...")
@json_option
@click.pass_obj
def show(library_path: Path, numbers: tuple[int, ...], as_json: bool) -> int:
    """Show how pictures were generated, and how to make each again.

    Prints query, models, seed and settings, and the command that makes the same file.
    """
    with open_library(library_path) as library:
        rows = [picture.to_json() | {"command": library.command_of(picture)} for picture in _pictures(library, numbers)]
    if as_json:
        say_json(rows)
    for row in rows if not as_json else ():
        print_facts(row)
    return 0


@generated.command()
@click.argument("numbers", nargs=-1, type=int, metavar="NUMBER...")
@click.option("--all", "everything", is_flag=True, help="Remove all generated pictures of the library.")
@click.pass_obj
def remove(library_path: Path, numbers: tuple[int, ...], everything: bool) -> int:
    """Delete generated pictures, files and records."""
    if bool(numbers) == everything:
        raise click.UsageError("give the numbers of pictures, or --all")
    with open_library(library_path) as library:
        _pictures(library, numbers)
        removed = library.remove_generated(None if everything else numbers)
    say(f"removed {len(removed)} generated picture{'' if len(removed) == 1 else 's'}")
    return 0


def _pictures(library: Library, numbers: tuple[int, ...]) -> list[Generated]:
    """Return the pictures with these numbers; raise UsageError if one does not exist."""
    by_number = {picture.id: picture for picture in library.generated()}
    unknown = [str(number) for number in numbers if number not in by_number]
    if unknown:
        raise click.UsageError(f"there is no generated picture {', '.join(unknown)}: `clipkit generated` lists them")
    return [by_number[number] for number in numbers]


def _line(picture: Generated) -> str:
    from clipkit.searching.query import in_words

    query = in_words(picture.query)
    if picture.operation != "generate":
        query = f"{picture.operation}: {query}"
    return "\t".join(
        (
            str(picture.id),
            picture.created_at[:16],
            picture.decoder,
            f"seed {picture.seed}",
            printable(query),
            printable(picture.path),
        )
    )
