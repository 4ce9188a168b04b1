"""`clipkit index`: add pictures to a library and bring it up to date."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipkit.cli.model_choice import ensure_model
from clipkit.cli.options import device_option, json_option, library_options
from clipkit.cli.printing import notify, say, say_json
from clipkit.cli.progress import progress_bar
from clipkit.errors import ClipkitError

if TYPE_CHECKING:
    from clipkit.indexing.report import IndexReport


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--model",
    metavar="ID",
    help="Model to embed the pictures with, see `clipkit models list`; one that is new to the library is added to it. "
    "[default: all models of the library; for a new library, the recommended model]",
)
@click.option("--yes", is_flag=True, help="Download the model without asking if it is not on this machine.")
@device_option
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Pictures to encode, and to commit, at a time.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Processes that decode pictures. [default: one per CPU core, at most 8]",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="GLOB",
    help="Skip files and folders whose name, or path below the folder, matches: * and ? stop at /, ** does not. "
    "Remembered with the folders; repeatable.",
)
@click.option(
    "--include-generated/--no-include-generated",
    default=None,
    help="Whether searches show pictures in PATHS that are marked as AI-generated; remembered with the folders. "
    "[default: as before; no for new folders]",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    help="Reject pictures with more pixels (width times height). [default: 300 million]",
)
@click.option(
    "--remove-missing",
    is_flag=True,
    help="Also remove the pictures of folders that are missing, empty, or on another drive than before. By default "
    "they are kept, because the drive may only be disconnected.",
)
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
    library_path: Path,
    as_json: bool,
) -> int:
    """Index the pictures in folders, or bring a library up to date.

    PATHS are folders or single files; without them, all folders of the library are scanned again. Only new and changed
    pictures are embedded. Indexing can be interrupted at any time: run the command again to resume.

    A library with several models is brought up to date in all of them, unless --model names one.
    """
    from clipkit.indexing.roots import check_paths
    from clipkit.library import Library

    if not remove_missing:
        check_paths([path.expanduser() for path in paths])  # before a library is created
    is_new = not (library_path / "catalog.db").exists()
    if is_new and not paths:
        raise ClipkitError(
            f"there is no library {library_path.name!r} yet: name some folders, as in `clipkit index ~/Pictures`"
        )
    if model or is_new:
        model = ensure_model(model, yes=yes)
    with Library.open_or_create(library_path, model=model) as library, progress_bar() as progress:
        report = library.index(
            paths,
            model=model,
            exclude=exclude,
            include_generated=include_generated,
            device=device,
            batch_size=batch_size,
            workers=workers,
            max_pixels=max_pixels,
            remove_missing=remove_missing,
            progress=progress,
        )
    for note in report.notes:
        notify(note)
    if as_json:
        say_json(report.to_json())
    else:
        say(summary(report))
    return 0


def summary(report: IndexReport) -> str:
    """Return what a run did, as one to four lines for people."""
    counts = {
        "added": report.added,
        "changed": report.changed,
        "moved": report.moved,
        "unchanged": report.unchanged,
        "removed": report.removed,
        "failed": report.failed,
    }
    done = ", ".join(f"{number:,} {what}" for what, number in counts.items() if number)
    lines = [
        f"{report.images:,} pictures in library {report.library!r}: {done or 'nothing to do'} ({report.seconds:.1f} s)"
    ]
    if report.generated:
        lines.append(f"{report.generated:,} files are marked as AI-generated: see `clipkit info`.")
    if len(report.models) > 1:
        lines.append(f"Embedded in {', '.join(report.models)}: {report.embedded:,} embeddings.")
    if report.failed:
        lines.append("Run `clipkit failures` to list the files that could not be read, and why.")
    return "\n".join(lines)
