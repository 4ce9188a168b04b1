"""`clipkit explain`: why a picture matched a query."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipkit.cli.explanation_output import print_explanation
from clipkit.cli.options import (
    also_option,
    avoid_option,
    device_option,
    json_option,
    library_model_option,
    library_options,
    open_library,
)
from clipkit.cli.printing import notify, say_json
from clipkit.cli.progress import progress_bar

if TYPE_CHECKING:
    from clipkit.catalog.catalog import Catalog
    from clipkit.searching.query import Query


@click.command()
@click.argument("asked", metavar="TEXT|PICTURE")
@click.argument("picture")
@also_option
@avoid_option
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the picture with the heat over it, to this PNG, JPEG or WebP file.",
)
@library_model_option
@device_option
@json_option
@library_options
def explain(
    asked: str,
    picture: str,
    also: tuple[str, ...],
    not_: tuple[str, ...],
    output: Path | None,
    model: str | None,
    device: str,
    as_json: bool,
    library_path: Path,
) -> int:
    """Explain why a picture matched a query, or did not.

    A PICTURE is a file, an http(s) URL, the id of a hit (`clipkit search --json`), or generated:N for a picture that
    `clipkit generated` lists; anything else is a TEXT. Prints the score and the confidence that a search gives it, the
    concepts that query and picture are near, each part of the query with its own confidence, and where in the picture
    the model sees what was asked for.

    Exits with 0 if the picture matches, 1 if it does not, 2 on an error.
    """
    with open_library(library_path) as library:
        if output:
            from clipkit.marks.writing import format_for

            format_for(output)  # before the work, not after it
        query = _query(asked, also, not_, library.catalog)
        with progress_bar() as progress:
            explanation = library.explain(query, picture, model=model, device=device, progress=progress)
    if output:
        explanation.save(output)
    if as_json:
        say_json(explanation.to_json())
    else:
        print_explanation(explanation, in_terminal=sys.stdout.isatty())
        for note in explanation.notes:
            notify(note)
    if output:
        notify(f"wrote {output}")
    return 0 if explanation.matched else 1


def _query(asked: str, also: tuple[str, ...], not_: tuple[str, ...], catalog: Catalog) -> Query:
    """Return the query for a text, or for a picture. Raises BadQuery if there is no such picture."""
    from clipkit.generation.operations.sources import find_source, names_picture
    from clipkit.searching.query import Query, is_url

    if not names_picture(asked):
        return Query(text=asked, also=also, not_=not_)
    like = asked if is_url(asked) else Path(find_source(asked, catalog).name)
    return Query(like=(like,), also=also, not_=not_)
