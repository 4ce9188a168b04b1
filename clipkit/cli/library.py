"""What keeps a library in order: `info`, `failures`, `check`, `remove`, `export`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from clipkit.cli.options import json_option, library_options, open_library
from clipkit.cli.printing import say, shown
from clipkit.cli.progress import progress_bar


@click.command()
@library_options
@json_option
def info(name: str, indexes: Path | None, as_json: bool) -> int:
    """What a library holds."""
    with open_library(name, indexes) as library:
        facts = library.info()
    if as_json:
        click.echo(json.dumps(facts.to_json()))
        return 0
    for label, value in facts.lines():
        say(f"{label:12} {shown(value)}")
    return 0


@click.command()
@library_options
@json_option
def failures(name: str, indexes: Path | None, as_json: bool) -> int:
    """Files that gave no picture, and why. They are tried again once they, or what was in the way, have changed."""
    with open_library(name, indexes) as library:
        rows = [failure.to_json() for failure in library.failures()]
    if as_json:
        click.echo(json.dumps(rows))
    for row in rows if not as_json else ():
        say(f"{row['kind']:12} {shown(row['path'])}: {shown(row['reason'])}")
    return 0


@click.command()
@click.option("--repair", is_flag=True, help="Rebuild what can be rebuilt.")
@library_options
@json_option
def check(repair: bool, name: str, indexes: Path | None, as_json: bool) -> int:
    """Check a library for damage; exits with 2 if something is wrong and was not repaired."""
    with open_library(name, indexes) as library, progress_bar() as progress:
        report = library.check(repair=repair, progress=progress)
    if as_json:
        click.echo(json.dumps(report.to_json()))
    else:
        for line in report.lines():
            say(shown(line))
    return 0 if report.ok else 2


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--orphans", is_flag=True, help="Drop the embeddings of pictures whose files have all gone.")
@click.option("--library", "whole", is_flag=True, help="Delete the whole library; pictures are never touched.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@library_options
def remove(paths: tuple[Path, ...], orphans: bool, whole: bool, yes: bool, name: str, indexes: Path | None) -> int:
    """Take files or folders out of a library. The pictures themselves are never touched."""
    if not (paths or orphans or whole):
        raise click.UsageError("name files or folders to take out, or use --orphans or --library")
    with open_library(name, indexes) as library:
        if whole:
            if not yes:
                click.confirm(f"Delete the library {library.name!r} in {shown(library.path)}?", abort=True, err=True)
            library.delete()
            say(f"library {library.name!r} deleted")
            return 0
        if paths:
            say(f"{library.remove(paths):,} pictures taken out of library {library.name!r}")
        if orphans:
            say(f"{library.purge_orphans():,} embeddings of vanished pictures dropped")
    return 0


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--space", metavar="ID", help="Which of the library's spaces. [default: its first]")
@click.option("--part-size", type=click.IntRange(1), default=1_000_000, show_default=True, help="Vectors a file.")
@library_options
@json_option
def export(folder: Path, space: str | None, part_size: int, name: str, indexes: Path | None, as_json: bool) -> int:
    """Write embeddings and metadata to FOLDER as img_emb/*.npy and metadata/*.parquet, as clip-retrieval reads them."""
    with open_library(name, indexes) as library, progress_bar() as progress:
        report = library.export(folder, model=space, part_size=part_size, progress=progress)
    if as_json:
        click.echo(json.dumps(report.to_json()))
    else:
        say(f"{report.vectors:,} vectors of {report.model} in {report.parts} parts in {shown(folder)}")
    return 0
