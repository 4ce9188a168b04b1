"""`clipkit decoders`: the models that make pictures."""

from __future__ import annotations

import json

import click

from clipkit.cli.options import json_option
from clipkit.cli.printing import say
from clipkit.cli.progress import progress_bar


@click.group()
def decoders() -> None:
    """The models that turn vectors and words into pictures."""


@decoders.command("list")
@json_option
def list_(as_json: bool) -> int:
    """List the decoders that clipkit knows by name; a FOLDER of a decoder's files works too."""
    from clipkit.generation.decoder_files import on_disk
    from clipkit.generation.registry import entries

    rows = [entry.to_json() | {"on_disk": on_disk(entry)} for entry in entries()]
    if as_json:
        click.echo(json.dumps(rows))
        return 0
    for row in rows:
        size = f"{row['download_gb']:g} GB" if row["download_gb"] else "bundled"
        memory = f"{row['memory_gb']:g} GB" if row["memory_gb"] else "-"
        mark = "*" if row["on_disk"] else " "
        say(f"{mark} {row['id']:20} {size:>8} {memory:>6}  {row['model']:30} {row['licence']}")
        say(f"    {row['note']}")
    say("* is on this machine. Then: download, memory of a GPU (half precision), the space that it takes, licence.")
    return 0


@decoders.command()
@click.argument("decoder", metavar="ID")
def pull(decoder: str) -> int:
    """Download a decoder with its image tower. A download that broke off goes on; hashes are checked."""
    from clipkit.generation import decoder_files
    from clipkit.generation.registry import resolve_decoder
    from clipkit.models.hub.cache import is_offline

    entry = resolve_decoder(decoder)
    if not decoder_files.missing_parts(entry) and (entry.folder or decoder_files.image_tower_folder(entry)):
        say(f"{entry.id} is on this machine; there is nothing to download")
        return 0
    if not is_offline():
        say(f"clipkit: {entry.id} takes about {entry.download_size(with_tower=True)}", err=True)
    with progress_bar() as progress:
        decoder_files.download(entry, progress=progress)
    say(f"{entry.id} is on this machine")
    return 0
