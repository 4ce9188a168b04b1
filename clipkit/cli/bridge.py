"""`clipkit bridge`: linear maps from a library's space to that of a decoder."""

from __future__ import annotations

import json
from pathlib import Path

import click

from clipkit.cli.options import json_option, library_options, open_library
from clipkit.cli.printing import say
from clipkit.cli.progress import progress_bar


@click.group()
def bridge() -> None:
    """Bridges from a library's space to a decoder's, for pictures where its image tower is not at hand."""


@bridge.command()
@click.option("--to", required=True, metavar="SPACE|DECODER|FOLDER", help="The space, or the decoder that takes it.")
@click.option("--from", "space", metavar="SPACE", help="The library's space to start from. [default: its first]")
@click.option(
    "--sample", type=click.IntRange(50), default=5000, show_default=True, help="Pictures to fit on, at the most."
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@json_option
@library_options
def fit(to: str, space: str | None, sample: int, device: str, as_json: bool, name: str, indexes: Path | None) -> int:
    """Fit a bridge on pictures of the library embedded in both spaces, and say how good it is on those held out."""
    with open_library(name, indexes) as library, progress_bar() as progress:
        fitted = library.fit_bridge(to, model=space, sample=sample, device=device, progress=progress)
    if as_json:
        click.echo(json.dumps(fitted.to_json()))
        return 0
    report = fitted.report
    say(f"{fitted.source} to {fitted.target}, fitted on {report.pictures:,} pictures")
    say(
        f"of {report.held_out:,} held out: cosine {report.cosine:.3f}, recall@1 {report.recall_1:.3f}, "
        f"recall@10 {report.recall_10:.3f}, norms off by {report.norm_error:.1%}"
    )
    return 0


@bridge.command("list")
@json_option
@library_options
def list_(as_json: bool, name: str, indexes: Path | None) -> int:
    """List a library's bridges with their scores on held-out pictures."""
    with open_library(name, indexes) as library:
        rows = library.bridges()
    if as_json:
        click.echo(json.dumps([row.to_json() for row in rows]))
    for row in rows if not as_json else ():
        r = row.report
        scores = (
            f"cosine {r.cosine:.3f}\trecall@1 {r.recall_1:.3f}\trecall@10 {r.recall_10:.3f}\t{r.pictures:,} pictures"
        )
        say(f"{row.source}\t{row.target}\t{scores}")
    return 0


@bridge.command()
@click.option("--to", metavar="SPACE|DECODER|FOLDER", help="Those that lead there.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@library_options
def remove(to: str | None, everything: bool, name: str, indexes: Path | None) -> int:
    """Delete bridges."""
    if bool(to) == everything:
        raise click.UsageError("say which with --to, or --all")
    with open_library(name, indexes) as library:
        gone = library.remove_bridges(to)
    say(f"removed {gone} bridge{'' if gone == 1 else 's'}")
    return 0
