"""`clipkit models export`: a model's ONNX form, made now, or anew, or in 8 bits."""

from __future__ import annotations

from pathlib import Path

import click

from clipkit.cli.printing import say, shown
from clipkit.cli.progress import progress_bar
from clipkit.errors import ClipkitError


@click.command(name="export")
@click.argument("model", metavar="ID")
@click.option("--int8", is_flag=True, help="In 8 bits too, kept if searches stay good: recall@10 of at least 0.98.")
@click.option(
    "--pictures", type=click.Path(exists=True, path_type=Path), multiple=True, metavar="PATH",
    help="Pictures that --int8 is judged on, best 500 photographs; repeatable.",
)  # fmt: skip
def export(model: str, int8: bool, pictures: tuple[Path, ...]) -> int:
    """Make a model's ONNX form anew; the first use of a model makes it by itself.

    It lies in the cache folder. Without --int8 it is made in full precision, whatever was there before.
    """
    from clipkit.models.loading import export_model
    from clipkit.models.reference import ModelRef

    if int8 and not pictures:
        raise click.UsageError("name pictures to judge 8 bits on, as in --pictures ~/Pictures")
    model_id = ModelRef.resolve(model).id
    with progress_bar() as progress:
        exported = export_model(model_id, progress=progress)
    if exported.refused:
        raise ClipkitError(f"{exported.space} stays in torch: {exported.refused}")
    assert exported.cosines
    say(f"{exported.space}: ONNX in {shown(exported.folder)}")
    say(f"  cosine to torch: text {exported.cosines['text']:.6f}, image {exported.cosines['image']:.6f}")
    in_torch, in_onnx = exported.image_rates
    say(f"  pictures a second on this CPU: torch {in_torch:g}, ONNX Runtime {in_onnx:g}")
    if int8:
        from clipkit.matching import concepts
        from clipkit.models.onnx.int8 import SAMPLE_IMAGES, quantise

        with progress_bar() as progress:
            verdicts = quantise(model_id, pictures, concepts()[:SAMPLE_IMAGES], progress=progress)
        for verdict in verdicts:
            kept = "kept" if verdict.kept else "not kept"
            speed = f"{verdict.rate_int8:g} a second against {verdict.rate_float32:g}"
            say(f"  {verdict.tower} in 8 bits: {kept}, recall@10 {verdict.recall:.3f}, {speed}")
    return 0
