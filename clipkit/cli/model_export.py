"""`clipkit models export`: export a model to ONNX, and quantise it to int8."""

from __future__ import annotations

from pathlib import Path

import click

from clipkit.cli.printing import printable, say
from clipkit.cli.progress import progress_bar
from clipkit.errors import ClipkitError


@click.command()
@click.argument("model", metavar="ID")
@click.option(
    "--int8",
    is_flag=True,
    help="Also quantise both towers to int8; each is kept only if recall@10 against float32 is at least 0.98.",
)
@click.option(
    "--pictures",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    metavar="PATH",
    help="Files or folders of pictures to measure --int8 on: at least 50, better 500 photographs; repeatable.",
)
def export(model: str, int8: bool, pictures: tuple[Path, ...]) -> int:
    """Export a model to ONNX again, in float32 or int8.

    The first use of a model exports it anyway, to the user cache folder. This command replaces that export; without
    --int8, by one in float32.
    """
    from clipkit.models.loading import export_model
    from clipkit.models.reference import ModelRef

    if int8 and not pictures:
        raise click.UsageError("name pictures to measure int8 on, as in --pictures ~/Pictures")
    model_id = ModelRef.resolve(model).id
    with progress_bar() as progress:
        exported = export_model(model_id, progress=progress)
    if exported.refused:
        raise ClipkitError(f"{exported.space} stays in torch: {exported.refused}")
    assert exported.cosines
    say(f"{exported.space}: ONNX in {printable(exported.folder)}")
    say(f"  cosine to torch: text {exported.cosines['text']:.6f}, image {exported.cosines['image']:.6f}")
    in_torch, in_onnx = exported.image_rates
    say(f"  pictures per second on this CPU: torch {in_torch:g}, ONNX Runtime {in_onnx:g}")
    if int8:
        _quantise(model_id, pictures)
    return 0


def _quantise(model: str, pictures: tuple[Path, ...]) -> None:
    from clipkit.matching import concepts
    from clipkit.models.onnx.int8 import SAMPLE_IMAGES, quantise

    with progress_bar() as progress:
        verdicts = quantise(model, pictures, concepts()[:SAMPLE_IMAGES], progress=progress)
    for verdict in verdicts:
        kept = "kept" if verdict.kept else "not kept"
        rates = f"{verdict.rate_int8:g} per second in int8, {verdict.rate_float32:g} in float32"
        say(f"  {verdict.tower} tower in int8: {kept}, recall@10 {verdict.recall:.3f}, {rates}")
