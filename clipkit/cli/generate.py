"""`clipkit generate` and `clipkit generated`: make pictures, and look after those that were made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from clipkit.catalog.generated import Generated
from clipkit.cli.options import NumberRange, json_option, library_options, open_library, query_of, query_options
from clipkit.cli.printing import say, shown
from clipkit.cli.progress import progress_bar
from clipkit.errors import LibraryNotFound


@click.command()
@query_options
@click.option("-n", "count", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many pictures.")
@click.option(
    "--seed", type=click.IntRange(0), help="The first picture's seed, the next ones count up. [default: random]"
)
@click.option("--steps", type=click.IntRange(1, 1000), help="Denoising steps. [default: the decoder's]")
@click.option(
    "--guidance", type=NumberRange(0, 100), help="Scale of classifier-free guidance. [default: the decoder's]"
)
@click.option("--size", type=click.IntRange(16, 4096), help="Side in pixels. [default: the decoder's]")
@click.option("--decoder", metavar="ID|FOLDER", help="Which decoder. [default: the one for the library's model]")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this PNG, JPEG or WebP; several are numbered. [default: the library's folder of made pictures]",
)  # fmt: skip
@click.option(
    "--route", type=click.Choice(["auto", "bridge"]), default="auto", show_default=True,
    help="How pictures get to the decoder: across a bridge though its image tower is here, or as is best.",
)  # fmt: skip
@click.option("--explain", is_flag=True, help="Say on stderr which route every term took; --json holds it too.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@json_option
@library_options
def generate(
    text: str,
    like: tuple[str, ...],
    not_: tuple[str, ...],
    weights: tuple[float, ...],
    count: int,
    seed: int | None,
    steps: int | None,
    guidance: float | None,
    size: int | None,
    decoder: str | None,
    output: Path | None,
    route: str,
    explain: bool,
    device: str,
    as_json: bool,
    name: str,
    indexes: Path | None,
) -> int:
    """Make pictures of TEXT, like pictures, or both. Every one is marked as made; `clipkit verify` reads the marks.

    Without a library give --decoder and -o.
    """
    query = query_of(text, like, not_, weights)
    options: dict[str, Any] = {
        "decoder": decoder,
        "seed": seed,
        "steps": steps,
        "guidance": guidance,
        "size": size,
        "route": route,
        "device": device,
        "say": lambda line: say(f"clipkit: {shown(line)}", err=True),
    }
    with progress_bar() as progress:
        try:
            library = open_library(name, indexes)
        except LibraryNotFound:
            from clipkit.generation.generate import generate as generate_alone

            if not (decoder and output):
                raise
            made = generate_alone(query, count, output=output, progress=progress, **options)
        else:
            with library:
                made = library.generate(query, count, output=output, progress=progress, **options)
    for leg in made[0].route if explain else ():
        say(f"route: {shown(leg['term'])}: {leg['route']}, through {leg['through']}", err=True)
    if as_json:
        click.echo(json.dumps([picture.to_json() for picture in made]))
    for picture in made if not as_json else ():
        say(shown(picture.path))
    return 0


@click.group(invoke_without_command=True)
@click.pass_context
@library_options
@json_option
def generated(context: click.Context, name: str, indexes: Path | None, as_json: bool) -> int | None:
    """List the pictures that were made; `open` and `remove` take their numbers."""
    context.obj = name, indexes
    if context.invoked_subcommand:
        return None
    with open_library(name, indexes) as library:
        rows = library.generated()
    if as_json:
        click.echo(json.dumps([row.to_json() for row in rows]))
    for row in rows if not as_json else ():
        say(_line(row))
    return 0


@generated.command("open")
@click.argument("numbers", nargs=-1, type=int, required=True, metavar="NUMBER...")
@click.pass_obj
def open_(library_name: tuple[str, Path | None], numbers: tuple[int, ...]) -> int:
    """Show made pictures in the system's viewer."""
    with open_library(*library_name) as library:
        there = {row.id: row for row in library.generated()}
    _must_exist(numbers, there)
    for number in numbers:
        click.launch(str(there[number].path))
    return 0


@generated.command()
@click.argument("numbers", nargs=-1, type=int, metavar="NUMBER...")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.pass_obj
def remove(library_name: tuple[str, Path | None], numbers: tuple[int, ...], everything: bool) -> int:
    """Delete made pictures, files and records."""
    if bool(numbers) == everything:
        raise click.UsageError("give the numbers of pictures, or --all")
    with open_library(*library_name) as library:
        _must_exist(numbers, {row.id: row for row in library.generated()})
        gone = library.remove_generated(None if everything else numbers)
    say(f"removed {len(gone)} made picture{'' if len(gone) == 1 else 's'}")
    return 0


def _must_exist(numbers: tuple[int, ...], there: dict) -> None:
    unknown = [str(number) for number in numbers if number not in there]
    if unknown:
        raise click.UsageError(f"there is no made picture {', '.join(unknown)}; `clipkit generated` lists them")


def _line(row: Generated) -> str:
    asked = row.query["text"] or ", ".join(f"like {Path(name).name}" for name in row.query["like"])
    return f"{row.id}\t{row.created_at[:16]}\t{row.decoder}\tseed {row.seed}\t{shown(asked)}\t{shown(row.path)}"
