"""`clipkit index`: folders into a library."""

from __future__ import annotations

import json
from pathlib import Path

import click

from clipkit.cli.options import json_option, library_options
from clipkit.cli.progress import progress_bar
from clipkit.indexing.report import IndexReport
from clipkit.library import Library, library_folder


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--model", metavar="ID", help="The model, for a new library: see `clipkit models list`. [default: tiny]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Pictures a step.")
@click.option("--workers", type=click.IntRange(1), help="Processes that decode. [default: the cores, at most 8]")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out files and folders; repeatable.")
@click.option("--max-pixels", type=click.IntRange(1), help="Refuse larger pictures. [default: 300 million]")
@library_options
@json_option
def index(
    paths: tuple[Path, ...],
    model: str | None,
    device: str,
    batch_size: int,
    workers: int | None,
    exclude: tuple[str, ...],
    max_pixels: int | None,
    name: str,
    indexes: Path | None,
    as_json: bool,
) -> int:
    """Index the pictures below PATHS; without PATHS, look again at all folders of the library.

    Only new and changed pictures are embedded. It can be stopped at any time and goes on from there.
    """
    folder = library_folder(name, indexes)
    library = Library.open_or_create(folder, space=model)
    with library, progress_bar() as progress:
        if not model and library.space == "tiny" and not library.info().images:
            click.echo(
                "clipkit: using the bundled model tiny, which knows drawn scenes, not photographs; "
                "for photographs name one with --model (clipkit models list)",
                err=True,
            )
        report = library.index(
            paths, space=model, exclude=exclude, device=device, batch_size=batch_size, workers=workers,
            max_pixels=max_pixels, progress=progress,
        )  # fmt: skip
    for note in report.notes:
        click.echo(f"clipkit: {note}", err=True)
    if as_json:
        click.echo(json.dumps(report.to_json()))
    else:
        click.echo(summary(report))
    return 0


def summary(report: IndexReport) -> str:
    """A line or two for people."""
    parts = [
        f"{number:,} {word}"
        for number, word in (
            (report.added, "added"), (report.changed, "changed"), (report.moved, "moved"),
            (report.unchanged, "unchanged"), (report.removed, "removed"), (report.failed, "failed"),
        )
        if number
    ]  # fmt: skip
    line = f"{report.images:,} pictures in library {report.library!r}: {', '.join(parts) or 'nothing to do'}"
    line += f" ({report.seconds:.1f} s)"
    if report.failed:
        line += "\n`clipkit failures` names the files that gave no picture, and why."
    return line
