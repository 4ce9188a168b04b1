"""`clipkit search`: find pictures by words and by other pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from clipkit.cli.opening import MOST_FILES, open_files
from clipkit.cli.options import (
    NumberRange,
    device_option,
    json_option,
    library_model_option,
    library_options,
    open_library,
    query_options,
)
from clipkit.cli.preview import print_pictures
from clipkit.cli.printing import notify, say_json
from clipkit.cli.progress import progress_bar
from clipkit.cli.search_output import print_csv, print_hits, print_paths

if TYPE_CHECKING:
    from clipkit.searching.query import Query
    from clipkit.searching.result import SearchResult


@click.command()
@query_options
@click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="Number of hits.")
@click.option(
    "--under",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Only pictures in this folder, or this file, under any path that leads there; repeatable.",
)
@click.option(
    "--after",
    metavar="DATE",
    help="Only pictures taken at or after DATE: 2024, 2024-06, 2024-06-01 or 2024-06-01T12:30. A DATE without a UTC "
    "offset is compared with the local time at which each picture was taken, wherever that was. With an offset, as in "
    "2024-06-01T12:30+02:00, it is one instant everywhere; a picture whose own offset is not known is taken to have "
    "the one in DATE. Pictures without a date are left out.",
)
@click.option("--before", metavar="DATE", help="Only pictures taken before DATE; read as for --after.")
@click.option("--camera", metavar="NAME", help="Only pictures of cameras whose make or model contains NAME.")
@click.option(
    "--near",
    metavar="LAT,LON,KM",
    help="Only pictures taken within KM kilometres of a place; LAT and LON in decimal degrees.",
)
@click.option(
    "--where",
    metavar="SQL",
    help="Only pictures for which an SQL expression over the columns of the table `images` holds, as in "
    "'width > height'; an unknown column gets the list of columns.",
)
@click.option(
    "--min-confidence",
    type=NumberRange(0, 1),
    metavar="P",
    help="Confidence, from 0 to 1, from which a hit counts as a match. Confidence is the estimated probability that "
    "a picture shows what the query asks for. [default: the calibrated threshold of the model]",
)
@click.option(
    "--generate",
    type=click.Choice(["auto", "never", "always"]),
    default="auto",
    show_default=True,
    help="Whether to generate a picture of the query. auto does so if nothing matches and a decoder on this machine "
    "can do it at once, but not with --csv, --paths or -0, which list hits only.",
)
@click.option("--fresh", is_flag=True, help="Generate a new picture even if this query already has one.")
@library_model_option
@device_option
@click.option(
    "--contact-sheet",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the hits as one labelled picture, in the format that the file name ends with.",
)
@click.option(
    "--preview",
    is_flag=True,
    help="Also show the hits as pictures, in a terminal: by the graphics protocols of kitty and iTerm2 or as sixels, "
    "elsewhere as coloured half blocks.",
)
@click.option(
    "--open",
    "open_viewer",
    is_flag=True,
    help="Open the matches and generated pictures in the system's viewer; with --contact-sheet, open the sheet.",
)
@click.option(
    "--server",
    metavar="URL",
    help="Ask the `clipkit serve` at this address instead of a library on this machine. Paths are those of the "
    "server's machine.",
)
@click.option("--token", metavar="TEXT", help="Token for --server. [default: that in its address, else $CLIPKIT_TOKEN]")
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--paths", "as_paths", is_flag=True, help="Print the paths of matches only, one a line.")
@click.option("-0", "as_null", is_flag=True, help="Like --paths, but exact bytes that end with NUL, for xargs -0.")
@library_options
def search(
    query: Query,
    k: int,
    under: tuple[Path, ...],
    after: str | None,
    before: str | None,
    camera: str | None,
    near: str | None,
    where: str | None,
    min_confidence: float | None,
    generate: Literal["auto", "never", "always"],
    fresh: bool,
    model: str | None,
    device: str,
    contact_sheet: Path | None,
    preview: bool,
    open_viewer: bool,
    server: str | None,
    token: str | None,
    as_json: bool,
    as_csv: bool,
    as_paths: bool,
    as_null: bool,
    library_path: Path,
) -> int:
    """Search a library by words, by pictures, or both.

    TEXT says what a picture should show. The nearest pictures are listed whether they match or not, each with the
    cosine similarity to the query and a confidence.

    Exits with 0 if something matched or was generated, 1 if nothing did, 2 on an error.
    """
    from clipkit.catalog.filters import Filters, parse_day, parse_near

    if sum((as_json, as_csv, as_paths, as_null)) > 1:
        raise click.UsageError("choose one of --json, --csv, --paths and -0")
    if preview and (as_json or as_csv or as_paths or as_null or not (sys.stdin.isatty() and sys.stdout.isatty())):
        raise click.UsageError("--preview shows pictures in a terminal; leave it out of scripts and pipes")
    if open_viewer and not contact_sheet and k > MOST_FILES:
        raise click.UsageError(f"--open opens at most {MOST_FILES} pictures; lower -k, or open one --contact-sheet")
    filters = Filters(
        under=under,
        after=parse_day(after) if after else None,
        before=parse_day(before) if before else None,
        camera=camera,
        near=parse_near(near) if near else None,
        where=where,
    )
    if generate == "auto" and (as_csv or as_paths or as_null):
        generate = "never"  # these list hits only: a generated picture would go unseen
    if server and (contact_sheet or preview or open_viewer):
        raise click.UsageError("--contact-sheet, --preview and --open need the pictures here, not behind --server")
    options: dict[str, Any] = {
        "k": k,
        "filters": filters,
        "min_confidence": min_confidence,
        "generate": generate,
        "fresh": fresh,
        "model": model,
    }
    if server:
        from clipkit.client.client import Client

        with Client(server, token) as client, progress_bar() as progress:
            result = client.search(query, progress=progress, **options)
    else:
        with open_library(library_path) as library:
            with progress_bar() as progress:
                result = library.search(query, device=device, progress=progress, **options)
            if contact_sheet:
                library.contact_sheet(result, contact_sheet)
    if as_json:
        say_json(result.to_json())
    elif as_csv:
        print_csv(result)
    elif as_paths or as_null:
        print_paths(result, end_with_null=as_null)
    else:
        if preview:
            print_pictures(result)
        print_hits(result)
    for note in () if as_json else result.notes:
        notify(note)
    if contact_sheet:
        notify(f"wrote the contact sheet {contact_sheet}")
    if open_viewer:
        open_files([contact_sheet] if contact_sheet else _to_open(result))
    return 0 if result.matched or result.generated else 1


def _to_open(result: SearchResult) -> list[Path]:
    """Return the generated pictures and the matches whose files are there."""
    found = [hit.path for hit in result if hit.matched and not hit.away]
    return [picture.path for picture in result.generated] + found
