"""`clipkit verify`: read the marks of AI-generated pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clipkit.cli.options import json_option
from clipkit.cli.printing import notify, printable, say, say_json
from clipkit.cli.progress import progress_bar
from clipkit.errors import UnreadableImage
from clipkit.progress import Progress

if TYPE_CHECKING:
    from clipkit.marks.reading import Marks


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@json_option
def verify(files: tuple[Path, ...], as_json: bool) -> int:
    """Tell whether pictures are marked as generated or edited by AI.

    Reads the marks of clipkit and of other tools: XMP and other metadata, C2PA, the invisible watermark. A picture
    without marks may still be generated, because marks can be removed.

    Exits with 0 if a file is marked, 1 if none is, 2 if a file cannot be read; the others are reported all the same.
    """
    from clipkit.marks import reading

    rows: list[dict[str, Any]] = []
    unreadable: list[UnreadableImage] = []
    any_marked = False
    with progress_bar() as progress:
        for number, file in enumerate(files, start=1):
            try:
                marks = reading.verify(file)
                any_marked |= marks.generated
                rows.append(marks.to_json())
                if not as_json:
                    print_marks(marks)
            except UnreadableImage as failure:
                unreadable.append(failure)
                rows.append({"path": str(file), "error": failure.reason, "kind": failure.kind})
            if progress and len(files) > 1:
                progress(Progress("verifying", number, len(files)))
    if as_json:
        say_json(rows)
    for error in unreadable:
        notify(error)
    if unreadable:
        return 2
    return 0 if any_marked else 1


def print_marks(marks: Marks) -> None:
    """Print the verdict and the path, then one line a mark."""
    verdict = ("AI-edited" if marks.edited else "AI-generated") if marks.generated else "no mark"
    say(f"{verdict:12} {printable(marks.path)}")
    for mark in marks.found:
        say(f"    {mark.kind:20} {mark.where:9} {printable(mark.value)}")
