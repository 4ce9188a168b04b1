"""`clipkit info`, `failures`, `check`, `remove` and `export`: what a library holds, and its upkeep."""

from __future__ import annotations

from pathlib import Path

import click

from clipkit.cli.options import json_option, library_model_option, library_options, open_library
from clipkit.cli.printing import printable, say, say_json
from clipkit.cli.progress import progress_bar


@click.command()
@library_options
@json_option
def info(library_path: Path, as_json: bool) -> int:
    """Show what a library holds."""
    with open_library(library_path) as library:
        facts = library.info()
    if as_json:
        say_json(facts.to_json())
        return 0
    for label, value in facts.lines():
        say(f"{label:12} {printable(value)}")
    return 0


@click.command()
@library_options
@json_option
def failures(library_path: Path, as_json: bool) -> int:
    """List the files that could not be indexed, and why.

    `clipkit index` retries them once they, or the cause, may have changed.
    """
    with open_library(library_path) as library:
        rows = [failure.to_json() for failure in library.failures()]
    if as_json:
        say_json(rows)
    for row in rows if not as_json else ():
        say(f"{row['kind']:12} {printable(row['path'])}: {printable(row['reason'])}")
    return 0


@click.command()
@click.option("--repair", is_flag=True, help="Rebuild the search indexes and whatever else can be rebuilt.")
@library_options
@json_option
def check(repair: bool, library_path: Path, as_json: bool) -> int:
    """Check a library for damage, and repair it.

    Exits with 0 if all is well or was repaired, 2 if something is damaged.
    """
    with open_library(library_path) as library, progress_bar() as progress:
        report = library.check(repair=repair, progress=progress)
    if as_json:
        say_json(report.to_json())
    else:
        for line in report.lines():
            say(printable(line))
    return 0 if report.ok else 2


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--orphans", is_flag=True, help="Delete the embeddings of pictures of which no file is left.")
@click.option("--library", "whole", is_flag=True, help="Delete the whole library, generated pictures included.")
@click.option("--yes", is_flag=True, help="Delete the library without asking.")
@library_options
def remove(paths: tuple[Path, ...], orphans: bool, whole: bool, yes: bool, library_path: Path) -> int:
    """Take pictures out of a library, or delete it.

    PATHS are files or folders. Your pictures are never touched.
    """
    if not (paths or orphans or whole):
        raise click.UsageError("name files or folders to take out, or use --orphans or --library")
    with open_library(library_path) as library:
        if whole:
            if not yes:
                question = f"Delete the library {library.name!r} in {printable(library.path)}?"
                click.confirm(question, abort=True, err=True)
            library.delete()
            say(f"deleted library {library.name!r}")
            return 0
        if paths:
            say(f"{library.remove(paths):,} pictures taken out of library {library.name!r}")
        if orphans:
            say(f"{library.purge_orphans():,} embeddings of vanished pictures deleted")
    return 0


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@library_model_option
@click.option(
    "--part-size", type=click.IntRange(1), default=1_000_000, show_default=True, help="Embeddings in each file."
)
@library_options
@json_option
def export(folder: Path, model: str | None, part_size: int, library_path: Path, as_json: bool) -> int:
    """Write embeddings and metadata to NumPy and Parquet files.

    FOLDER gets img_emb/img_emb_N.npy (float16 unit vectors) and metadata/metadata_N.parquet, the layout that
    clip-retrieval reads.
    """
    with open_library(library_path) as library, progress_bar() as progress:
        report = library.export(folder, model=model, part_size=part_size, progress=progress)
    if as_json:
        say_json(report.to_json())
    else:
        say(f"wrote {report.vectors:,} embeddings of {report.model} in {report.parts} parts to {printable(folder)}")
    return 0
