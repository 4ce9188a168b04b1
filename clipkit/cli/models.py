"""`clipkit models`: the models that clipkit knows, those on this machine, and those of a library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from clipkit.cli import library_models
from clipkit.cli.model_export import export
from clipkit.cli.options import json_option, library_options
from clipkit.cli.printing import print_facts, say, say_json
from clipkit.cli.progress import progress_bar
from clipkit.errors import ModelNotAvailable

pickle_option = click.option(
    "--allow-pickle",
    is_flag=True,
    help="Also accept pickled weights; only tensors are read, and kept as safetensors.",
)


@click.group()
def models() -> None:
    """List, download, import and choose models.

    A model turns pictures and words into embeddings. Its ID is a name from `clipkit models list`, any open_clip
    NAME/TAG, hf-hub:OWNER/REPOSITORY, or a folder with open_clip_config.json and weights.
    """


@models.command(name="list")
@library_options
@json_option
def list_models(library_path: Path, as_json: bool) -> int:
    """List known and imported models, and those of a library.

    Shows the dimension of the embeddings, the size of the download, published accuracy and the licence, then the
    models of the library with the number of pictures that each covers, the default one first. In JSON, "on_disk" says
    whether the model is on this machine, and "library" holds its coverage, or null if the library lacks it.
    """
    from clipkit.models.hub.listing import known_models

    held = library_models.coverage_of(library_path)
    rows = known_models(also=[model.model for model in held])
    if as_json:
        library = {
            model.model: {
                "dimension": model.dimension,
                "embedded": model.embedded,
                "pictures": model.pictures,
                "default": model.default,
            }
            for model in held
        }
        say_json([{**row, "library": library.get(row["id"])} for row in rows])
        return 0
    say(f"{'':2}{'model':54} {'dim':>5} {'download':>10} {'ImageNet':>9} {'COCO R@1':>9}  licence")
    for row in rows:
        if "summary" in row or "imported" in row:  # others are only in the library
            _print_model(row)
    say("* is on this machine. ImageNet: zero-shot top-1; COCO: text-to-image recall@1; both in %, as published.")
    if held:
        library_models.print_coverage(library_path.name, held)
    return 0


@models.command()
@click.argument("model", metavar="ID")
@json_option
def show(model: str, as_json: bool) -> int:
    """Show what is known of a model, and where its files are."""
    from clipkit.models.hub.listing import describe

    facts = describe(model)
    if as_json:
        say_json(facts)
    else:
        print_facts(facts)
    return 0


@models.command()
@click.argument("model", metavar="[ID]", required=False, default="")
@pickle_option
@json_option
def pull(model: str, allow_pickle: bool, as_json: bool) -> int:
    """Download a model, by default the recommended one.

    An interrupted download resumes where it stopped; checksums are verified, also of files that are here already.
    """
    from clipkit.models.hub.pulling import pull_model

    with progress_bar() as progress:
        report = pull_model(model, allow_pickle=allow_pickle, progress=progress)
    if as_json:
        say_json(report.to_json())
    elif report.files:
        megabytes = sum(report.files.values()) / 1e6
        say(f"{report.model} is on this machine: {len(report.files)} files, {megabytes:,.1f} MB, checksums match")
    else:
        say(f"{report.model} is on this machine; there is nothing to download")
    return 0


@models.command(name="import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--as",
    "model",
    metavar="ID",
    default="",
    help="ID to import it under; open_clip's NAME/TAG if PATH has no open_clip_config.json. [default: the name of the "
    "repository or folder]",
)
@pickle_option
@json_option
def import_(path: Path, model: str, allow_pickle: bool, as_json: bool) -> int:
    """Import a model from files on this machine.

    PATH is a folder with open_clip_config.json and weights, a models--OWNER--NAME folder of a Hugging Face cache, or a
    file of weights. The files are copied to $CLIPKIT_MODELS, or your user data folder.
    """
    from clipkit.models.hub.importing import import_model

    imported = import_model(path, model, allow_pickle=allow_pickle)
    if as_json:
        say_json({"model": imported})
    else:
        say(f"imported {imported}: use it with --model {imported}")
    return 0


@models.command()
@click.argument("model", metavar="ID")
def forget(model: str) -> int:
    """Delete an imported model from this machine.

    Deletes its ONNX export too. Libraries keep their embeddings, and the Hugging Face cache keeps its downloads.
    """
    from clipkit.models.hub.importing import remove_import

    if not remove_import(model):
        raise ModelNotAvailable(f"{model} is not an imported model: `clipkit models list` shows the models here")
    say(f"deleted the imported model {model}")
    return 0


for command in (export, library_models.use, library_models.remove):
    models.add_command(command)


def _print_model(row: dict[str, Any]) -> None:
    mark = "*" if row["on_disk"] else " "
    if "imported" in row:
        say(f"{mark:2}{row['id']:54} imported")
        return
    size = f"{row['megabytes']:,} MB" if row["megabytes"] else "bundled"
    accuracy = " ".join(f"{_percent(row[key]):>9}" for key in ("imagenet_zero_shot", "coco_text_to_image_r1"))
    say(f"{mark:2}{row['id']:54} {row['dimension']:5} {size:>10} {accuracy}  {row['licence']}")
    say(f"{'':4}{row['summary']}{' (recommended)' if row['recommended'] else ''}")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
