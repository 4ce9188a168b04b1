"""`clipkit verify`: was this picture made by a model? Every mark that says something about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipkit.cli.options import json_option
from clipkit.cli.printing import say, shown
from clipkit.cli.progress import progress_bar
from clipkit.errors import UnreadableImage
from clipkit.progress import Progress

if TYPE_CHECKING:
    from clipkit.marks.reading import Marks


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@json_option
def verify(files: tuple[Path, ...], as_json: bool) -> int:
    """Report the marks of pictures that say that a model made them, clipkit's and those of other tools.

    Exits with 0 if a mark says so of any of the files, with 1 if none does, with 2 if a file cannot be read; the others
    are reported all the same.
    """
    from clipkit.marks import reading

    found: list[Marks] = []
    unreadable: list[UnreadableImage] = []
    rows: list[dict] = []
    with progress_bar() as progress:
        for number, file in enumerate(files):
            try:
                marks = reading.verify(file)
                found.append(marks)
                rows.append(marks.to_json())
                if not as_json:
                    render(marks)
            except UnreadableImage as error:
                unreadable.append(error)
                rows.append({"path": str(file), "error": error.reason, "kind": error.kind})
            if progress and len(files) > 1:
                progress(Progress("verifying", number + 1, len(files)))
    if as_json:
        click.echo(json.dumps(rows))
    for failure in unreadable:
        say(f"clipkit: {shown(failure)}", err=True)
    if unreadable:
        return 2
    return 0 if any(marks.generated for marks in found) else 1


def render(marks: Marks) -> None:
    """The verdict and the path on a line, then a line a mark."""
    say(f"{'made by a model' if marks.generated else 'no such mark':16} {shown(marks.path)}")
    for mark in marks.found:
        say(f"    {mark.kind:20} {mark.where:9} {shown(mark.value)}")
