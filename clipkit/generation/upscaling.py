"""Enlarge a whole picture to a size, with the networks of `upscalers.py` or by Lanczos resampling."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from PIL import Image

from clipkit.errors import BadQuery, ClipkitError, DecoderNotAvailable
from clipkit.generation.tiling import Upscaler, enlarge_in_tiles, tile_count
from clipkit.generation.upscalers import UpscalerEntry
from clipkit.images.limits import Limits
from clipkit.models.devices import choose_device
from clipkit.models.memory import is_out_of_memory, memory_advice
from clipkit.progress import Progress, ProgressCallback

MAX_SIDE = 16_384
"""Pixels of the longer side of a result."""
MAX_ENLARGEMENT = 16
"""Beyond that a network would enlarge little but what it invented itself."""

Size = tuple[int, int]
"""Width and height in pixels."""


def enlarged_size(size: Size, to: int | None, entry: UpscalerEntry) -> Size:
    """Return the size of a picture of `size` whose longer side is enlarged to `to` pixels, by default once.

    Raises BadQuery if that does not enlarge it, or is too much.
    """
    longer, shorter = max(size), min(size)
    chosen = "" if to is None else f" --to {to}"
    to = longer * entry.factor if to is None else to
    if to <= longer:
        raise BadQuery(
            f"the picture has {size[0]} x {size[1]} pixels, so {to} for its longer side would not enlarge it: give more"
        )
    pixels = to * max(1, round(shorter * to / longer))
    most = min(MAX_SIDE, MAX_ENLARGEMENT * longer, int((Limits().pixels * longer / shorter) ** 0.5))
    if to > most or pixels > Limits().pixels:
        raise BadQuery(
            f"a picture of {size[0]} x {size[1]} pixels can be enlarged to {most} pixels at most, not to {to}"
            + ("" if chosen else f", {entry.factor} times its size: say how many")
        )
    width, height = (max(1, round(side * to / longer)) for side in size)
    return width, height


def enlarge(
    image: Image.Image,
    size: Size,
    entry: UpscalerEntry,
    *,
    device: str = "auto",
    progress: ProgressCallback | None = None,
) -> Image.Image:
    """Return an RGB picture enlarged to a larger `size`; the same bytes on the same machine.

    A network is applied as often as that takes, and what the last time is too large is reduced.
    Raises DecoderNotAvailable.
    """
    image = image.convert("RGB")
    if not entry.invents:
        return image.resize(size, Image.Resampling.LANCZOS)
    if progress:
        progress(Progress("loading the upscaler", 0, None))
    try:
        upscaler = load_upscaler(entry, device)
        steps = sizes(image.size, size, upscaler.factor)
        total = sum(tile_count(before, upscaler) for before in steps[:-1])
        done = 0

        def on_tile() -> None:
            nonlocal done
            done += 1
            if progress:
                progress(Progress("upscaling, tiles", done, total))

        pixels = np.asarray(image)
        for _, after in pairwise(steps):
            pixels = enlarge_in_tiles(pixels, after, upscaler, on_tile)
    except Exception as error:
        if isinstance(error, ClipkitError) or not is_out_of_memory(error):
            raise
        where = choose_device(device)
        raise DecoderNotAvailable(
            f"{'this machine' if where == 'cpu' else 'the GPU'} has not enough memory left for the upscaler "
            f"{entry.id}: {memory_advice(where)}"
        ) from error
    return Image.fromarray(pixels)


def sizes(size: Size, target: Size, factor: int) -> list[Size]:
    """Return the sizes on the way to `target`, both ends included: each is `factor` times the one before, or less."""
    found = [size]
    while found[-1][0] * factor < target[0] or found[-1][1] * factor < target[1]:
        found.append((found[-1][0] * factor, found[-1][1] * factor))
    return [*found, target]


@lru_cache(maxsize=1)
def load_upscaler(entry: UpscalerEntry, device: str = "auto") -> Upscaler:
    """Load a network, cached for the next picture. Raises DecoderNotAvailable."""
    if entry.draws:
        from clipkit.generation.drawn_upscaler import DrawnUpscaler

        return DrawnUpscaler(entry, device)
    from clipkit.generation.swin2sr import Swin2SR

    return Swin2SR(entry, device)
