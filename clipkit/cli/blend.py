"""`clipkit blend`: pictures on the way between pictures or texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from clipkit.cli.operation_options import library_if_needed, print_pictures, sampling_options
from clipkit.cli.printing import say_json


class _Weights(click.ParamType):
    name = "weights"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        """Return the numbers between the commas."""
        try:
            return [float(part) for part in value.split(",")]
        except ValueError:
            self.fail(f"{value!r} is no list of numbers such as 0.7,0.3", param, ctx)


@click.command()
@click.argument("items", nargs=-1, required=True, metavar="PICTURE|TEXT PICTURE|TEXT...")
@click.option(
    "--steps",
    type=click.IntRange(2, 100),
    default=5,
    show_default=True,
    help="Number of pictures on the way, both ends included.",
)
@click.option(
    "--weights",
    type=_Weights(),
    metavar="W,W...",
    help="Make one picture instead, with a weight for each picture and text; only the ratio counts.",
)
@click.option(
    "--denoising-steps", type=click.IntRange(1, 1000), help="Denoising steps of each picture. [default: the decoder's]"
)
@sampling_options
def blend(
    items: tuple[str, ...],
    steps: int,
    weights: list[float] | None,
    denoising_steps: int | None,
    as_json: bool,
    library_path: Path,
    **options: Any,
) -> int:
    """Blend two or more pictures or texts.

    A PICTURE is a file, an http(s) URL, the id of a hit (`clipkit search --json`), or generated:N for a picture that
    `clipkit generated` lists; anything else is a TEXT. Their embeddings are interpolated, from the first over all
    others to the last, and every picture
    starts from the same noise. The last file is a strip of all of them; --output names it. Without a library, give
    --decoder and --output.
    """
    options |= {"weights": weights, "denoising_steps": denoising_steps}
    with library_if_needed(library_path, options) as library:
        if library is None:
            from clipkit.generation.operations.blend import blend as blend_alone

            result = blend_alone(items, steps, **options)
        else:
            result = library.blend(items, steps, **options)
    if as_json:
        say_json(result.to_json())
    else:
        print_pictures([*result.pictures, *([result.strip] if result.strip else [])], as_json=False)
    return 0
