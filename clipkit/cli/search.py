"""`clipkit search`: words and pictures in, hits out."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import Literal

import click

from clipkit.catalog.filters import Filters, parse_day, parse_near
from clipkit.cli.options import NumberRange, json_option, library_options, open_library, query_of, query_options
from clipkit.cli.printing import as_line, say, shown
from clipkit.cli.progress import progress_bar
from clipkit.searching.result import SearchResult


@click.command()
@query_options
@click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="How many hits.")
@click.option(
    "--under",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Only pictures below it, by any of its names; repeatable.",
)
@click.option(
    "--after", metavar="DATE",
    help="Only pictures taken at or after it: 2024-06-01 or 2024-06-01T12:30 by the local time of each picture; "
    "2024-06-01T12:30+02:00 is an instant, in whatever zone a picture was taken.",
)  # fmt: skip
@click.option("--before", metavar="DATE", help="Only pictures taken before it; read as for --after.")
@click.option("--camera", metavar="NAME", help="Only pictures of cameras whose name contains it.")
@click.option("--near", metavar="LAT,LON,KM", help="Only pictures taken within KM of the place.")
@click.option("--where", metavar="SQL", help="Only pictures for which the expression over `images` holds.")
@click.option("--min-confidence", type=NumberRange(0, 1), help="Confidence that counts as a match.")
@click.option(
    "--generate", type=click.Choice(["auto", "never", "always"]), default="auto", show_default=True,
    help="Make the missing picture: auto when nothing matches, a decoder on this machine can do so at once, and the "
    "output shows it (not --csv, --paths, -0).",
)  # fmt: skip
@click.option("--fresh", is_flag=True, help="Make a new picture even if this query got one before.")
@click.option(
    "--space", metavar="ID", help="Which of the library's spaces, see `clipkit spaces list`. [default: its first]"
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@click.option("--contact-sheet", type=click.Path(dir_okay=False, path_type=Path), help="Write the hits as one picture.")
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--paths", "as_paths", is_flag=True, help="Print the paths of matching hits only, one a line.")
@click.option("-0", "as_null", is_flag=True, help="As --paths, byte for byte and ended by NUL, for xargs -0.")
@library_options
def search(
    text: str,
    like: tuple[str, ...],
    not_: tuple[str, ...],
    weights: tuple[float, ...],
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
    space: str | None,
    device: str,
    contact_sheet: Path | None,
    as_json: bool,
    as_csv: bool,
    as_paths: bool,
    as_null: bool,
    name: str,
    indexes: Path | None,
) -> int:
    """Search a library by TEXT, by pictures, or both.

    Exits with 0 if something matches or was made, with 1 if nothing does; the nearest pictures are shown in any case.
    """
    if sum((as_json, as_csv, as_paths, as_null)) > 1:
        raise click.UsageError("choose one of --json, --csv, --paths and -0")
    query = query_of(text, like, not_, weights)
    filters = Filters(
        under=under,
        after=parse_day(after) if after else None,
        before=parse_day(before) if before else None,
        camera=camera,
        near=parse_near(near) if near else None,
        where=where,
    )
    if generate == "auto" and (as_csv or as_paths or as_null):
        generate = "never"  # these list what was found: a picture that was made would go unseen
    with open_library(name, indexes) as library:
        with progress_bar() as progress:
            result = library.search(
                query, k=k, filters=filters, min_confidence=min_confidence, generate=generate, fresh=fresh,
                model=space, device=device, progress=progress,
            )  # fmt: skip
        if contact_sheet:
            library.contact_sheet(result, contact_sheet)
    if as_json:
        click.echo(json.dumps(result.to_json()))
    elif as_csv:
        say(_csv(result))
    elif as_paths or as_null:
        _write_paths(result, end_with_null=as_null)
    else:
        render(result)
    if not as_json:
        for note in result.notes:
            say(f"clipkit: {shown(note)}", err=True)
    if contact_sheet:
        say(f"clipkit: contact sheet in {shown(contact_sheet)}", err=True)
    return 0 if result.matched or result.generated else 1


def _csv(result: SearchResult) -> str:
    out = io.StringIO()
    columns = ("rank", "path", "score", "confidence", "matched", "id")
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**hit.to_json(), "path": shown(hit.path)} for hit in result)
    return out.getvalue().removesuffix("\n")


def _write_paths(result: SearchResult, *, end_with_null: bool) -> None:
    """Write the paths of matches: byte for byte where each ends with NUL, else one a line.

    Files that are away are left out, because nothing could open them.
    """
    stream = sys.stdout.buffer
    for hit in result:
        if not hit.matched or hit.away:
            continue
        if end_with_null:
            stream.write(os.fsencode(hit.path) + b"\0")
        elif sys.stdout.isatty():
            say(shown(hit.path))
        else:
            stream.write(as_line(hit.path))
    stream.flush()


def render(result: SearchResult) -> None:
    """A table with clickable paths on a terminal; plain columns, one hit a line, elsewhere."""
    if not sys.stdout.isatty():
        for made in result.generated:
            say(f"made\t-\t-\tmade\t{shown(made.path)}")
        for hit in result:
            state = "away" if hit.away else "match" if hit.matched else "-"
            say(f"{hit.rank}\t{hit.score:.3f}\t{hit.confidence:.2f}\t{state}\t{shown(hit.path)}")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("", "cosine", "confidence"):
        table.add_column(heading, justify="right")
    table.add_column("picture", overflow="fold")
    for made in result.generated:
        row = Text("made, not found: ", style="bold magenta")
        row.append(shown(made.path), style=f"link {made.path.as_uri()}")
        table.add_row("", "", Text("made", style="magenta"), row)
    for hit in result:
        row = Text(shown(hit.path), style=f"link {hit.path.as_uri()}" + ("" if hit.matched else " dim"))
        if hit.away:
            row.append("  (away)", style="yellow")
        if hit.copies:
            row.append(f"  (+{len(hit.copies)} copies)", style="dim")
        confidence = Text(f"{hit.confidence:.2f}", style="green" if hit.matched else "dim")
        table.add_row(str(hit.rank), f"{hit.score:.3f}", confidence, row)
    Console().print(table)
