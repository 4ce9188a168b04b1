"""How the hits of a search are printed: a table, plain columns, CSV, or paths."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

from clipkit.cli.printing import path_line, printable, say

if TYPE_CHECKING:
    from clipkit.searching.result import Hit, SearchResult


def print_hits(result: SearchResult) -> None:
    """Print a table with clickable paths on a terminal; tab-separated columns, one hit a line, elsewhere."""
    if sys.stdout.isatty():
        _print_table(result)
        return
    for picture in result.generated:
        say(f"generated\t-\t-\tgenerated\t{printable(picture.path)}")
    for hit in result:
        say(f"{hit.rank}\t{hit.score:.3f}\t{hit.confidence:.2f}\t{_state(hit)}\t{printable(hit.path)}")


def print_csv(result: SearchResult) -> None:
    """Print the hits as CSV with a header."""
    import csv

    out = io.StringIO()
    columns = ("rank", "path", "score", "confidence", "matched", "id")
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**hit.to_json(), "path": printable(hit.path)} for hit in result)
    say(out.getvalue().removesuffix("\n"))


def print_paths(result: SearchResult, *, end_with_null: bool) -> None:
    """Print the paths of matches: one a line, or exact bytes that end with NUL.

    Files that are away are left out, because nothing could open them.
    """
    stream = sys.stdout.buffer
    for hit in result:
        if not hit.matched or hit.away:
            continue
        if end_with_null:
            stream.write(os.fsencode(hit.path) + b"\0")
        elif sys.stdout.isatty():
            say(printable(hit.path))
        else:
            stream.write(path_line(hit.path))
    stream.flush()


def _state(hit: Hit) -> str:
    if hit.away:
        return "away"
    return "match" if hit.matched else hit.near_miss or "-"


def _print_table(result: SearchResult) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("", "cosine", "confidence"):
        table.add_column(heading, justify="right")
    table.add_column("picture", overflow="fold")
    for picture in result.generated:
        row = Text("generated, not found: ", style="bold magenta")
        row.append(printable(picture.path), style=f"link {picture.path.as_uri()}")
        table.add_row("", "", Text("generated", style="magenta"), row)
    for hit in result:
        row = Text(printable(hit.path), style=f"link {hit.path.as_uri()}" + ("" if hit.matched else " dim"))
        if hit.away:
            row.append("  (away)", style="yellow")
        if hit.copies:
            row.append(f"  (+{len(hit.copies)} copies)", style="dim")
        if remark := hit.relation or hit.near_miss:
            row.append(f"  ({remark})", style="dim")
        confidence = Text(f"{hit.confidence:.2f}", style="green" if hit.matched else "dim")
        table.add_row(str(hit.rank), f"{hit.score:.3f}", confidence, row)
    Console().print(table)
