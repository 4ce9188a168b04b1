"""`clipkit bridge`: linear maps from a library's embeddings to those that a decoder takes."""

from __future__ import annotations

from pathlib import Path

import click

from clipkit.cli.options import device_option, json_option, library_options, open_library
from clipkit.cli.printing import say, say_json
from clipkit.cli.progress import progress_bar


@click.group()
def bridge() -> None:
    """Fit linear maps from a library's embeddings to a decoder's.

    With a bridge, a decoder generates from pictures although its image tower is not on this machine.
    """


@bridge.command()
@click.option(
    "--to",
    required=True,
    metavar="MODEL|DECODER|FOLDER",
    help="Model whose embeddings the bridge leads to, or a decoder that takes them.",
)
@click.option(
    "--from",
    "model",
    metavar="MODEL",
    help="Model of the library that the bridge starts from. [default: the library's default model]",
)
@click.option(
    "--sample",
    type=click.IntRange(50),
    default=5000,
    show_default=True,
    help="Most pictures to fit on; a fifth of them is held out to measure the fit.",
)
@device_option
@json_option
@library_options
def fit(to: str, model: str | None, sample: int, device: str, as_json: bool, library_path: Path) -> int:
    """Fit a bridge on pictures of the library.

    They are embedded by both models. Prints how well it does on held-out pictures: mean cosine similarity to the true
    embedding, recall@1, recall@10, and the relative error of the norm.
    """
    with open_library(library_path) as library, progress_bar() as progress:
        fitted = library.fit_bridge(to, model=model, sample=sample, device=device, progress=progress)
    if as_json:
        say_json(fitted.to_json())
        return 0
    report = fitted.report
    say(f"{fitted.source} to {fitted.target}, fitted on {report.pictures:,} pictures")
    say(
        f"on {report.held_out:,} held-out pictures: cosine {report.cosine:.3f}, recall@1 {report.recall_1:.3f}, "
        f"recall@10 {report.recall_10:.3f}, norm error {report.norm_error:.1%}"
    )
    return 0


@bridge.command("list")
@json_option
@library_options
def list_(as_json: bool, library_path: Path) -> int:
    """List the bridges of a library, with their scores."""
    with open_library(library_path) as library:
        bridges = library.bridges()
    if as_json:
        say_json([fitted.to_json() for fitted in bridges])
    for fitted in bridges if not as_json else ():
        report = fitted.report
        say(
            f"{fitted.source}\t{fitted.target}\tcosine {report.cosine:.3f}\trecall@1 {report.recall_1:.3f}"
            f"\trecall@10 {report.recall_10:.3f}\t{report.pictures:,} pictures"
        )
    return 0


@bridge.command()
@click.option("--to", metavar="MODEL|DECODER|FOLDER", help="Delete the bridges that lead to this model or decoder.")
@click.option("--all", "everything", is_flag=True, help="Delete all bridges of the library.")
@library_options
def remove(to: str | None, everything: bool, library_path: Path) -> int:
    """Delete bridges of a library."""
    if bool(to) == everything:
        raise click.UsageError("say which bridges with --to, or --all")
    with open_library(library_path) as library:
        removed = library.remove_bridges(to)
    say(f"removed {removed} bridge{'' if removed == 1 else 's'}")
    return 0
