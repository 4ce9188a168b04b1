"""Where a picture shows what is asked for: parts of it are hidden, and the image tower is asked again.

Hiding a window and measuring what the picture's vector loses is the occlusion of Zeiler & Fergus, "Visualizing and
Understanding Convolutional Networks", ECCV 2014. Its counterpart hides all but the window and measures what is left of
what was asked for. Both need only the image tower as it is, in torch or ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from clipkit.models.encoder import Encoder
from clipkit.vectors.unit import unit

Floats = NDArray[np.float32]
WINDOWS = ((0.28, 7, 1.0), (0.45, 4, 0.5))
"""For each size of window: its side, as a fraction of that of the square which the model sees; how many windows there
are along a side; and the weight of what they find. Small windows tell things apart, large ones find large things."""
BATCH = 8
"""Pictures encoded at once, where the encoder has no batch of its own."""
BLUR = 0.25
"""Standard deviation of the blur that hides, as a fraction of the square's side."""


@dataclass(frozen=True)
class Occlusion:
    """What is left of a picture's vector when parts of it are hidden.

    whole: (d,) float32 unit, the vector of the picture.
    hidden: for each size of `WINDOWS`, (places, places, d) float32 unit, with one window hidden; rows before columns.
    alone: the same, with all but the window hidden.
    """

    whole: Floats
    hidden: tuple[Floats, ...]
    alone: tuple[Floats, ...]

    def heat(
        self,
        direction: Floats,
        frame: tuple[float, float, float, float],
        shape: tuple[int, int],
        least: float = 0.0,
    ) -> Floats:
        """Return where a picture shows what a direction, (d,), stands for: `shape` (rows, columns) in [0, 1].

        frame: the part of the picture that the square shows, see `Preprocessing.frame`; the heat is 0 outside it.
        least: the change of a score that counts as 1, unless the largest one is larger. Without it, the hottest place
            of a picture would glow even if it shows nothing of what was asked for.
        """
        left, top, right, bottom = frame
        down, across = _positions(shape[0], top, bottom), _positions(shape[1], left, right)
        total = np.zeros(shape, np.float32)
        for (side, places, weight), hidden, alone in zip(WINDOWS, self.hidden, self.alone, strict=True):
            rows, columns = _windows(down, side, places), _windows(across, side, places)
            covered = np.maximum(np.outer(rows.sum(0), columns.sum(0)), 1e-6)
            for found in ((self.whole - hidden) @ direction, alone @ direction):
                # Most windows show something else; what they score is the level from which heat counts.
                total += weight * (rows.T @ (found - np.median(found)) @ columns) / covered
        inside = np.outer((down >= 0) & (down <= 1), (across >= 0) & (across <= 1))
        heat = np.where(inside, np.maximum(total / (2 * sum(weight for *_, weight in WINDOWS)), 0.0), 0.0)
        return np.asarray(heat / max(float(heat.max(initial=0.0)), least, 1e-6), np.float32)


def occlude(encoder: Encoder, pixels: np.ndarray, report: Callable[[int, int], None] | None = None) -> Occlusion:
    """Encode a picture with its parts hidden, window by window, and with all but them hidden.

    pixels: uint8 (size, size, 3), from the encoder's `preprocessing.pixels`.
    report: called with how many of the pictures are encoded, and of how many.

    A few pictures are in memory at a time.
    """
    counts = [2 * places**2 for _, places, _ in WINDOWS]
    count = 1 + sum(counts)
    batch = encoder.image_batch or BATCH
    vectors = np.zeros((count, encoder.dimension), np.float32)
    pictures = _pictures(pixels)
    for start in range(0, count, batch):
        part = np.stack(list(islice(pictures, batch)))
        vectors[start : start + len(part)] = encoder.encode_images(part)
        if report:
            report(start + len(part), count)
    vectors = unit(vectors)
    pairs = [
        part.reshape(places, places, 2, -1)
        for (_, places, _), part in zip(WINDOWS, np.split(vectors[1:], np.cumsum(counts)[:-1]), strict=True)
    ]
    return Occlusion(vectors[0], tuple(pair[:, :, 0] for pair in pairs), tuple(pair[:, :, 1] for pair in pairs))


def _pictures(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the picture as it is, then for each window the picture without it, and nothing but it."""
    yield pixels
    size = len(pixels)
    clear, blurred = pixels.astype(np.float32), _blurred(pixels)
    for side, places, _ in WINDOWS:
        windows = _windows((np.arange(size) + 0.5) / size, side, places)
        for down in windows:
            for across in windows:
                window = np.outer(down, across)[..., None]
                for share in (window, 1 - window):
                    yield np.clip(clear + share * (blurred - clear) + 0.5, 0, 255).astype(np.uint8)


def _blurred(pixels: np.ndarray) -> Floats:
    """Return the picture blurred beyond recognition, float32; its colours stay, so that a patch of it is not odd."""
    from PIL import Image, ImageFilter

    blur = ImageFilter.GaussianBlur(BLUR * len(pixels))
    return np.asarray(Image.fromarray(pixels).filter(blur), np.float32)


def _windows(positions: NDArray[np.float64], side: float, places: int) -> Floats:
    """Return how much of each position along one side every window covers, (places, positions) in [0, 1].

    The edges of a window are soft, because a tower sees hard ones as things of their own.
    """
    centres = (np.arange(places) + 0.5) / places
    away = (positions[None] - centres[:, None]) / (side / 2.6)
    return np.minimum(1.0, 1.3 * np.exp(-0.5 * away**2)).astype(np.float32)


def _positions(cells: int, start: float, end: float) -> NDArray[np.float64]:
    """Return where the middles of cells along a side of the picture lie on the square, as fractions of its side."""
    return ((np.arange(cells) + 0.5) / cells - start) / (end - start)
