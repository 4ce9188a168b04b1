"""`clipkit decoders`: the models that turn embeddings into pictures, and those that enlarge pictures."""

from __future__ import annotations

from pathlib import Path

import click

from clipkit.cli.options import json_option, library_options
from clipkit.cli.printing import notify, printable, say, say_json
from clipkit.cli.progress import progress_bar


@click.group()
def decoders() -> None:
    """List and download decoders and upscalers; show what is refused.

    A decoder generates pictures: it turns image embeddings, its own or those of a prior, into pixels. An upscaler
    enlarges a picture.
    """


@decoders.command("list")
@json_option
def list_(as_json: bool) -> int:
    """List the decoders and upscalers that clipkit knows.

    Shows the size of the download, the GPU memory needed in half precision, the model whose embeddings a decoder
    takes, and the licence. Other decoders are named by their FOLDER, as diffusers saves it.
    """
    from clipkit.generation import upscalers
    from clipkit.generation.decoder_files import on_disk
    from clipkit.generation.registry import entries

    rows = [{"kind": "decoder"} | entry.to_json() | {"on_disk": on_disk(entry)} for entry in entries()]
    networks = [
        {"kind": "upscaler"} | entry.to_json() | {"on_disk": upscalers.on_disk(entry)}
        for entry in upscalers.published()
    ]
    if as_json:
        say_json([*rows, *networks])
        return 0
    longest = max(len(row["id"]) for row in rows)
    say(f"  {'decoder':{longest}} {'download':>8} {'memory':>6}  {'model':30} licence")
    for row in rows:
        size = f"{row['download_gb']:g} GB" if row["download_gb"] else "bundled"
        memory = f"{row['memory_gb']:g} GB" if row["memory_gb"] else "-"
        mark = "*" if row["on_disk"] else " "
        say(f"{mark} {row['id']:{longest}} {size:>8} {memory:>6}  {row['model']:30} {row['licence']}")
        say(f"    {row['note']}")
    say(f"  {'upscaler':{longest}} {'download':>8} {'factor':>6}  {'':30} licence")
    for row in networks:
        size, mark = f"{row['download_mb']:g} MB", "*" if row["on_disk"] else " "
        say(f"{mark} {row['id']:{longest}} {size:>8} {row['factor']:>6}  {'':30} {row['licence']}")
        say(f"    {row['note']}")
    say("* is on this machine. Memory: of a GPU, in half precision.")
    return 0


@decoders.command()
@click.argument("decoder", metavar="ID")
def pull(decoder: str) -> int:
    """Download a decoder and its image tower, or an upscaler.

    An interrupted download resumes where it stopped; checksums are verified.
    """
    from clipkit.generation.pulling import pull_decoder

    with progress_bar() as progress:
        downloaded = pull_decoder(decoder, say=notify, progress=progress)
    say(f"{decoder} is on this machine{'' if downloaded else '; there is nothing to download'}")
    return 0


@decoders.command()
@json_option
@library_options
def safety(as_json: bool, library_path: Path) -> int:
    """Show which concepts are refused, or warned about.

    A copy of the list in the library's folder, or in your configuration folder, replaces it as a whole. It counts for
    published decoders, and with --safety for the bundled one; searches find what they find.
    """
    from clipkit.catalog.layout import Layout
    from clipkit.generation.safety_list import list_in_force, places

    layout = Layout(library_path)
    listed = list_in_force(layout)
    if as_json:
        say_json(listed.to_json())
        return 0
    say(f"the list in force is {printable(listed.path)}")
    for concept in listed.concepts:
        because = f" ({printable(concept.reason)})" if concept.reason else ""
        say(f"  {concept.action:6}  {printable(concept.name)}{because}")
        say(f"          {printable(', '.join(concept.phrasings))}")
    of_library, of_user, _ = places(layout)
    say(f"To change it, copy it to {printable(of_user)}, or to {printable(of_library)} for this library alone.")
    return 0
