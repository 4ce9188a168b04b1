"""The invisible watermark: a faint pattern in the brightness that says that clipkit made the picture.

The method is dither modulation, a form of quantisation index modulation (B. Chen and G. W. Wornell, "Quantization index
modulation: a class of provably good methods for digital watermarking and information embedding", IEEE Transactions on
Information Theory 47(4), 2001), on low and middle frequencies of the discrete cosine transform of the whole picture,
which JPEG and resizing leave nearly alone (I. J. Cox et al., "Secure spread spectrum watermarking for multimedia", IEEE
Transactions on Image Processing 6(12), 1997). Frequencies are counted in half waves over the width and over the height,
so the same coefficients are found whatever size the picture was brought to.

Embedding moves each coefficient x to the nearest point of its own lattice, step * (integer + phase); the phases are
fixed and look random. A detector sums up how near the coefficients are to their lattices:

    score = sqrt(2 / n) * sum of cos(2 pi (x / step - phase))  over n coefficients.

For a picture without the mark the phases are random numbers to it, so every cosine has mean 0 and variance 1/2, and
since E exp(s cos(uniform)) = I0(s) <= exp(s^2 / 4), the chance that the score exceeds t is below exp(-t^2 / 2), for any
picture whatever. Contrast, brightness and blur scale the coefficients; the detector tries `HYPOTHESES` such scalings,
takes the best, and pays for it in its bound: 35 * exp(-18) = 5e-7 at the threshold of 6.

It is a label, not a lock: the pattern is public, so who wants to can take it off, or put it on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

STEP = 12.0
"""Distance of lattice points, in grey levels, of orthonormal coefficients of a picture of 128 x 128 pixels."""

LOWEST, HIGHEST = 12, 44
"""The band: frequencies (u, v) with LOWEST <= sqrt(u^2 + v^2) <= HIGHEST, in half waves over a side."""

THRESHOLD = 6.0
"""A score that counts as found. See above: fewer than one picture in a million without the mark reaches it."""

_REFERENCE_SIDE = 128
_BELOW_NYQUIST = 0.9  # higher ones of a small picture are what resizing distorts most
_FEWEST = 100  # coefficients; below them a score says too little
_ROUNDS = 3
_LARGEST_SIDE = 1024  # of a picture that is looked at, whose two sides need not be to scale
_SEED = 20_010_501
_GAINS = np.array([0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15], np.float32)
# Exponents of a loss exp(-blur * (u^2 + v^2)): sharpened, as it was, and three degrees of averaging neighbours. Halving
# 256 pixels by a box of 2 x 2 loses 2.5e-5, by a triangle twice that: the first terms of their sinc functions.
_BLURS = np.array([-2.5e-5, 0.0, 2.5e-5, 5e-5, 1e-4], np.float32)
HYPOTHESES = len(_GAINS) * len(_BLURS)

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True)
class Detection:
    """`score` as the module's text says, about 0 +- 1 without the mark; `found` if it reaches `THRESHOLD`."""

    score: float

    @property
    def found(self) -> bool:
        return self.score >= THRESHOLD

    def to_json(self) -> dict:
        """Plain data."""
        return {"found": self.found, "score": round(self.score, 2), "threshold": THRESHOLD}


def embed(image: Image.Image) -> Image.Image:
    """The picture with the mark in it: RGB, the same size. The same picture gives the same pixels.

    Pictures of less than 16 x 16 pixels or so hold too few frequencies, and come back unmarked.
    """
    rgb = np.asarray(image.convert("RGB"), np.float32)
    height, width = rgb.shape[:2]
    band = _band(height, width)
    if len(band.u) < _FEWEST:
        return image.convert("RGB")
    scaled = _coefficients(rgb @ _LUMA, band) / STEP - band.phase
    target = (np.round(scaled) + band.phase) * STEP
    marked = rgb
    # Rounding to whole levels, and clipping at black and white, undo some of it: so what is missing is added again.
    for _ in range(_ROUNDS):
        missing = target - _coefficients(np.clip(np.rint(marked), 0, 255) @ _LUMA, band)
        marked = np.clip(marked + _plane(missing, height, width, band)[..., None], -8, 263)
    return Image.fromarray(np.clip(np.rint(marked), 0, 255).astype(np.uint8))


def detect(image: Image.Image) -> Detection:
    """Looks for the mark in a picture of any size and mode; costs under 1 ms at 256 pixels.

    It needs the whole picture upright, perhaps resized; a crop or a turn moves the frequencies and hides the mark.
    """
    sides = min(image.width, _LARGEST_SIDE), min(image.height, _LARGEST_SIDE)
    image = image if image.size == sides else image.resize(sides, Image.Resampling.BOX)
    luma = np.asarray(image.convert("RGB"), np.float32) @ _LUMA
    band = _band(*luma.shape)
    count = len(band.u)
    if count < _FEWEST:
        return Detection(0.0)
    scaled = _coefficients(luma, band) / STEP
    restored = np.exp(_BLURS[:, None] * band.squared_radius) * scaled  # (blurs, n)
    hypotheses = restored[:, None] / _GAINS[:, None]  # (blurs, gains, n)
    nearness = np.cos(2 * np.pi * (hypotheses - band.phase)).sum(axis=2, dtype=np.float64)
    return Detection(float(nearness.max()) * math.sqrt(2 / count))


@dataclass(frozen=True)
class _Band:
    """The frequencies in use, (n,) each: `u` down, `v` across, `phase` in [0, 1), `squared_radius` = u^2 + v^2."""

    u: np.ndarray
    v: np.ndarray
    phase: np.ndarray
    squared_radius: np.ndarray


@lru_cache(maxsize=1)
def _full_band() -> _Band:
    u, v = np.mgrid[0 : HIGHEST + 1, 0 : HIGHEST + 1]
    squared = u**2 + v**2
    inside = (squared >= LOWEST**2) & (squared <= HIGHEST**2)
    u, v, squared = u[inside], v[inside], squared[inside]
    # Pairs of neighbours in frequency get opposite phases: where a flat or blurred picture has only zeros above some
    # frequency, which no dither can make look random, their cosines cancel instead of adding up to a chance offset.
    order = np.argsort(squared, kind="stable")
    first = np.random.Generator(np.random.PCG64(_SEED)).random((len(order) + 1) // 2)
    phase = np.empty(len(order))
    phase[order] = np.stack([first, (first + 0.5) % 1], axis=1).ravel()[: len(order)]
    return _Band(u, v, phase.astype(np.float32), squared.astype(np.float32))


@lru_cache(maxsize=32)
def _band(height: int, width: int) -> _Band:
    """The frequencies that a picture of this size can hold."""
    full = _full_band()
    held = (full.u < _BELOW_NYQUIST * height) & (full.v < _BELOW_NYQUIST * width)
    return _Band(full.u[held], full.v[held], full.phase[held], full.squared_radius[held])


@lru_cache(maxsize=32)
def _cosines(side: int) -> np.ndarray:
    """The first rows of the orthonormal DCT-II of a side of that many pixels, float32 (HIGHEST + 1, side)."""
    frequency = np.arange(HIGHEST + 1)[:, None]
    rows = np.cos(np.pi * frequency * (np.arange(side) + 0.5) / side) * math.sqrt(2 / side)
    rows[0] /= math.sqrt(2)
    return rows.astype(np.float32)


def _coefficients(luma: np.ndarray, band: _Band) -> np.ndarray:
    """DCT coefficients of float32 (h, w) at the band's frequencies, float32 (n,), as if it were 128 x 128 pixels."""
    height, width = luma.shape
    grid = _cosines(height) @ luma @ _cosines(width).T
    return grid[band.u, band.v] * np.float32(_REFERENCE_SIDE / math.sqrt(height * width))


def _plane(coefficients: np.ndarray, height: int, width: int, band: _Band) -> np.ndarray:
    """The pixels, float32 (h, w), that have these coefficients and no others."""
    grid = np.zeros((HIGHEST + 1, HIGHEST + 1), np.float32)
    grid[band.u, band.v] = coefficients
    return _cosines(height).T @ grid @ _cosines(width) * np.float32(math.sqrt(height * width) / _REFERENCE_SIDE)
