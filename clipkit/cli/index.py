"""`clipkit index`: folders into a library."""

from __future__ import annotations

import json
from pathlib import Path

import click

from clipkit.catalog.layout import library_folder
from clipkit.cli.model_choice import ensure_model
from clipkit.cli.options import json_option, library_options
from clipkit.cli.printing import say, shown
from clipkit.cli.progress import progress_bar
from clipkit.errors import ClipkitError
from clipkit.indexing.report import IndexReport
from clipkit.indexing.roots import check_paths
from clipkit.library import Library


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--model", metavar="ID",
    help="The model, see `clipkit models list`; one that the library lacks is added to it. "
    "[default: all that the library has; for a new one the recommended model]",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Download the model without asking if it is not on this machine.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Pictures a step.")
@click.option("--workers", type=click.IntRange(1), help="Processes that decode. [default: the cores, at most 8]")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out files and folders; repeatable.")
@click.option(
    "--include-generated/--no-include-generated", default=None,
    help="Let searches show pictures marked as made by a model. [default: as before for a folder, at first no]",
)  # fmt: skip
@click.option("--max-pixels", type=click.IntRange(1), help="Refuse larger pictures. [default: 300 million]")
@click.option(
    "--remove-missing", is_flag=True,
    help="Take out the pictures of folders that are not there, empty, or on another drive than before; they are kept "
    "otherwise, because a drive may be away.",
)  # fmt: skip
@library_options
@json_option
def index(
    paths: tuple[Path, ...],
    model: str | None,
    yes: bool,
    device: str,
    batch_size: int,
    workers: int | None,
    exclude: tuple[str, ...],
    include_generated: bool | None,
    max_pixels: int | None,
    remove_missing: bool,
    name: str,
    indexes: Path | None,
    as_json: bool,
) -> int:
    """Index the pictures below PATHS; without PATHS, look again at all folders of the library.

    Only new and changed pictures are embedded. It can be stopped at any time and goes on from there.
    A library that has several models is brought up to date in all of them, unless --model names one.
    """
    if not remove_missing:
        check_paths([path.expanduser() for path in paths])  # before a library is made
    folder = library_folder(name, indexes)
    is_new = not (folder / "catalog.db").exists()
    if is_new and not paths:
        raise ClipkitError(f"there is no library {name!r} yet: name some folders, as in `clipkit index ~/Pictures`")
    if model or is_new:
        model = ensure_model(model, yes=yes)
    with Library.open_or_create(folder, model=model) as library, progress_bar() as progress:
        report = library.index(
            paths, model=model, exclude=exclude, include_generated=include_generated, device=device,
            batch_size=batch_size, workers=workers, max_pixels=max_pixels,
            remove_missing=remove_missing, progress=progress,
        )  # fmt: skip
    for note in report.notes:
        say(f"clipkit: {shown(note)}", err=True)
    if as_json:
        click.echo(json.dumps(report.to_json()))
    else:
        say(summary(report))
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
    if report.generated:
        line += f"\n{report.generated:,} files are marked as made by a model: see `clipkit info`."
    if len(report.models) > 1:
        line += f"\nEmbedded in {', '.join(report.models)}: {report.embedded:,} embeddings."
    if report.failed:
        line += "\n`clipkit failures` names the files that gave no picture, and why."
    return line
