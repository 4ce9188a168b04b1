"""`clipkit models`: the spaces that clipkit knows."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from clipkit.cli.export_model import export
from clipkit.cli.options import json_option


@click.group()
def models() -> None:
    """The models that turn pictures and words into vectors."""


models.add_command(export)


@models.command(name="list")
@json_option
def list_models(as_json: bool) -> int:
    """List the models that clipkit knows by name; any other open_clip NAME/TAG or checkpoint folder works too."""
    from clipkit.spaces.registry import entries

    if as_json:
        rows = [{k: v for k, v in asdict(entry).items() if k != "bundled"} for entry in entries()]
        click.echo(json.dumps(rows))
        return 0
    for entry in entries():
        size = f"{entry.megabytes:,} MB" if entry.megabytes else "bundled"
        click.echo(f"{entry.id:36} {entry.dimension:5} d  {size:>9}  {entry.licence:11} {entry.summary}")
    return 0
