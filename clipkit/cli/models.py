"""`clipkit models`: the models that clipkit knows, has, and can get."""

from __future__ import annotations

import json
from pathlib import Path

import click

from clipkit.cli.export_model import export
from clipkit.cli.options import json_option
from clipkit.cli.printing import say
from clipkit.cli.progress import progress_bar

pickle_option = click.option(
    "--allow-pickle", is_flag=True, help="Read pickled weights too, tensors only, and keep them as safetensors."
)


@click.group()
def models() -> None:
    """The models that turn pictures and words into vectors."""


models.add_command(export)


@models.command(name="list")
@json_option
def list_models(as_json: bool) -> int:
    """List the models that clipkit knows by name; any other open_clip NAME/TAG, hf-hub:ID or folder works too."""
    from clipkit.models.hub.importing import imported
    from clipkit.models.hub.locating import on_disk
    from clipkit.models.reference import ModelRef
    from clipkit.models.registry import entries

    known = [{**entry.to_json(), "on_disk": on_disk(ModelRef.of(entry.id))} for entry in entries()]
    others = [space for space in imported() if all(row["id"] != space for row in known)]
    if as_json:
        click.echo(json.dumps([*known, *({"id": space, "on_disk": True} for space in others)]))
        return 0
    say(f"{'':2}{'model':54} {'dim':>5} {'download':>10} {'ImageNet':>9} {'COCO R@1':>9}  licence")
    for row in known:
        size = f"{row['megabytes']:,} MB" if row["megabytes"] else "bundled"
        figures = " ".join(f"{_percent(row[key]):>9}" for key in ("imagenet_zero_shot", "coco_text_to_image_r1"))
        mark = "*" if row["on_disk"] else " "
        say(f"{mark:2}{row['id']:54} {row['dimension']:5} {size:>10} {figures}  {row['licence']}")
        say(f"{'':4}{row['summary']}{' (recommended)' if row['recommended'] else ''}")
    for space in others:
        say(f"{'*':2}{space:54} imported")
    say("* is on this machine. ImageNet: zero-shot top-1; COCO: text-to-image recall@1; both in %, as published.")
    return 0


@models.command()
@click.argument("model", metavar="ID")
@json_option
def show(model: str, as_json: bool) -> int:
    """Show what is known of a model, and where its files are."""
    from clipkit.errors import ModelNotAvailable
    from clipkit.models.hub.locating import locate, require_known
    from clipkit.models.reference import ModelRef

    ref = ModelRef.resolve(model)
    require_known(ref)
    facts: dict = ref.entry.to_json() if ref.entry else {"id": ref.id}
    try:
        facts |= {"on_disk": True, "weights": str(locate(ref).weights)}
    except ModelNotAvailable as error:
        facts |= {"on_disk": False, "weights": None, "note": str(error)}
    if as_json:
        click.echo(json.dumps(facts))
        return 0
    for name, value in facts.items():
        if value not in (None, "", []) or name == "on_disk":
            shown = ", ".join(value) if isinstance(value, list) else {True: "yes", False: "no"}.get(value, value)  # type: ignore[call-overload]
            say(f"{name.replace('_', ' '):24} {shown}")
    return 0


@models.command()
@click.argument("model", metavar="[ID]", required=False, default="")
@pickle_option
@json_option
def pull(model: str, allow_pickle: bool, as_json: bool) -> int:
    """Download a model, the recommended one by default. A download that broke off goes on; hashes are checked."""
    from clipkit.models.hub.pulling import pull_model

    with progress_bar() as progress:
        report = pull_model(model, allow_pickle=allow_pickle, progress=progress)
    if as_json:
        click.echo(json.dumps(report.to_json()))
    elif report.files:
        megabytes = sum(report.files.values()) / 1e6
        say(f"{report.model} is on this machine: {len(report.files)} files, {megabytes:,.1f} MB, hashes right")
    else:
        say(f"{report.model} is on this machine; there is nothing to download")
    return 0


@models.command(name="import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--as", "model", metavar="ID", default="", help="Its id. [default: by the name of the repository or folder]"
)
@pickle_option
@json_option
def import_(path: Path, model: str, allow_pickle: bool, as_json: bool) -> int:
    """Take a model from PATH: a folder, a repository of the hub's cache, or a file of weights. Needs no network."""
    from clipkit.models.hub.importing import import_model

    space = import_model(path, model, allow_pickle=allow_pickle)
    say(json.dumps({"space": space}) if as_json else f"{space} is imported: use it with --model {space}")
    return 0


@models.command()
@click.argument("model", metavar="ID")
def forget(model: str) -> int:
    """Delete an imported model; libraries, and the hub's cache, stay as they are."""
    from clipkit.errors import ModelNotAvailable
    from clipkit.models.hub.importing import remove_import

    if not remove_import(model):
        raise ModelNotAvailable(f"{model} was not imported: `clipkit models list` tells what is here")
    say(f"{model} is forgotten")
    return 0


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
