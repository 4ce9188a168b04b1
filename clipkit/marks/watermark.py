"""The invisible watermark: a faint pattern in the luma that says that clipkit generated the picture.

The method is dither modulation, a form of quantisation index modulation (B. Chen and G. W. Wornell, "Quantization index
modulation: a class of provably good methods for digital watermarking and information embedding", IEEE Transactions on
Information Theory 47(4), 2001), on low and middle frequencies of the discrete cosine transform of the whole picture,
which survive JPEG and resizing (I. J. Cox et al., "Secure spread spectrum watermarking for multimedia", IEEE
Transactions on Image Processing 6(12), 1997). Frequencies are counted in half waves per side, so resizing a picture
keeps its coefficients.

Embedding moves each coefficient x to the nearest point of its own lattice, step * (integer + phase), with fixed
pseudorandom phases. The detector measures how close the coefficients are to their lattices:

    score = sqrt(2 / n) * sum of cos(2 pi (x / step - phase))  over n coefficients.

The phases are independent of a picture without the watermark, so every cosine has mean 0 and variance 1/2. Since
E exp(s cos(uniform)) = I0(s) <= exp(s^2 / 4), the score of any such picture exceeds t with a probability below
exp(-t^2 / 2). Contrast, brightness and blur scale the coefficients; the detector takes the best of `HYPOTHESES` such
scalings, so the bound at the threshold of 6 is 35 * exp(-18) = 5e-7.

It is a label, not a lock: the pattern is public, so anyone can remove or add it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

STEP = 12.0
"""Lattice spacing of the orthonormal coefficients of a 128 x 128 picture, in grey levels."""

LOWEST, HIGHEST = 12, 44
"""Frequency band: LOWEST <= sqrt(u^2 + v^2) <= HIGHEST, in half waves per side."""

THRESHOLD = 6.0
"""Detection threshold of the score. Fewer than one in a million unmarked pictures reaches it, see above."""

_REFERENCE_SIDE = 128
_BELOW_NYQUIST = 0.9  # resizing distorts the highest frequencies of a small picture most
_MIN_COEFFICIENTS = 100  # with fewer, scores are too noisy
_ROUNDS = 3
# For a picture of which only a part may change: rounds at most, the pace, the largest change of a pixel in grey levels,
# and the score that is enough, which leaves room for JPEG and resizing.
_MASKED_ROUNDS, _PACE, _MOST, _CLEARLY = 40, 1.9, 12.0, 24.0
_STRIP_PIXELS = 4_000_000  # of a large picture at a time: 50 MB as floats
_MAX_SIDE = 1024  # larger pictures are reduced for detection, each side on its own
_SEED = 20_010_501
_GAINS = np.array([0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15], np.float32)
# Exponents of an attenuation exp(-blur * (u^2 + v^2)): sharpened, unchanged, and three degrees of blur. Halving 256
# pixels with a 2 x 2 box filter amounts to 2.5e-5, with a triangle filter to twice that (first terms of the sinc).
_BLURS = np.array([-2.5e-5, 0.0, 2.5e-5, 5e-5, 1e-4], np.float32)
HYPOTHESES = len(_GAINS) * len(_BLURS)

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True)
class Detection:
    """The detector's score, see above: about 0 +- 1 without the watermark. `found` if it reaches `THRESHOLD`."""

    score: float

    @property
    def found(self) -> bool:
        return self.score >= THRESHOLD

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"found": self.found, "score": round(self.score, 2), "threshold": THRESHOLD}


def embed(image: Image.Image, painted: np.ndarray | None = None) -> Image.Image:
    """Return the picture with the watermark: RGB, of the same size; deterministic.

    `painted`: bool (h, w), the pixels that may change; all others stay as they are. The fewer there are, the fewer
    coefficients can reach their lattices; if too few do for the detector, the picture is returned unmarked.
    Pictures below about 16 x 16 pixels have too few frequencies and are returned unmarked.
    """
    if painted is not None and not painted.all():
        return _embed_in(image.convert("RGB"), painted)
    image = image.convert("RGB")
    band = _band(image.height, image.width)
    if len(band.u) < _MIN_COEFFICIENTS:
        return image
    picture = _Strips(np.asarray(image), band)
    scaled = picture.coefficients() / STEP - band.phase
    target = (np.round(scaled) + band.phase) * STEP
    # Rounding and clipping remove part of the change: correct for it iteratively.
    for _ in range(_ROUNDS):
        picture.changes.append(target - picture.coefficients())
    return Image.fromarray(picture.pixels())


class _Strips:
    """A picture, uint8 (h, w, 3), and changes of its luma, as coefficients (n,), that are added one after the other.

    It is computed strip by strip, anew every time, because floats of a whole picture take several times its memory.
    """

    def __init__(self, rgb: np.ndarray, band: _Band) -> None:
        self.rgb, self.band, self.changes = rgb, band, list[np.ndarray]()
        height, width = rgb.shape[:2]
        self.down, self.across = _cosines(height), _cosines(width)
        self.scale = np.float32(math.sqrt(height * width) / _REFERENCE_SIDE)
        rows = max(1, _STRIP_PIXELS // width)
        self.strips = [slice(top, top + rows) for top in range(0, height, rows)]

    def coefficients(self) -> np.ndarray:
        """Return the DCT coefficients of the changed picture's luma in the band, scaled to 128 x 128 pixels."""
        grid = sum(self.down[:, rows] @ (self._changed(rows) @ _LUMA) @ self.across.T for rows in self.strips)
        return np.asarray(grid)[self.band.u, self.band.v] * (1 / self.scale)

    def pixels(self) -> np.ndarray:
        """Return the changed picture, uint8 (h, w, 3)."""
        result = np.empty_like(self.rgb)
        for rows in self.strips:
            result[rows] = self._changed(rows)
        return result

    def _changed(self, rows: slice) -> np.ndarray:
        """Return whole numbers from 0 to 255, float32 (rows, w, 3)."""
        strip = self.rgb[rows].astype(np.float32)
        for change in self.changes:
            grid = np.zeros((HIGHEST + 1, HIGHEST + 1), np.float32)
            grid[self.band.u, self.band.v] = change
            plane = self.down[:, rows].T @ grid @ self.across * self.scale
            strip = np.clip(strip + plane[..., None], -8, 263)
        return np.clip(np.rint(strip), 0, 255)


def _embed_in(image: Image.Image, painted: np.ndarray) -> Image.Image:
    """Embed the watermark of the whole picture by changes to the painted pixels alone.

    Projected gradient descent (Landweber's iteration): every round moves all coefficients towards the nearest points of
    their lattices, and keeps what that changes of the painted pixels.
    """
    height, width = painted.shape
    band = _band(height, width)
    if len(band.u) < _MIN_COEFFICIENTS:
        return image
    rgb = np.array(image)
    rows, columns = (slice(found[0], found[-1] + 1) for found in map(np.flatnonzero, (painted.any(1), painted.any(0))))
    inside, there = painted[rows, columns], rgb[rows, columns].astype(np.float32)
    # All channels change alike and stay within 0 to 255, so that the luma changes by exactly as much.
    lowest = np.maximum(-there.min(2), -_MOST) * inside
    highest = np.minimum(255 - there.max(2), _MOST) * inside
    down, across = _cosines(height)[:, rows], _cosines(width)[:, columns]
    scale = np.float32(_REFERENCE_SIDE / math.sqrt(height * width))
    before = _coefficients(rgb.astype(np.float32) @ _LUMA, band)
    change = np.zeros(inside.shape, np.float32)
    for _ in range(_MASKED_ROUNDS):
        present = before + (down @ np.rint(change) @ across.T)[band.u, band.v] * scale
        scaled = present / STEP - band.phase
        if _score(scaled) >= _CLEARLY:
            break
        grid = np.zeros((HIGHEST + 1, HIGHEST + 1), np.float32)
        grid[band.u, band.v] = (np.round(scaled) + band.phase) * STEP - present
        change = np.clip(change + _PACE * (down.T @ grid @ across) / scale, lowest, highest)
    rgb[rows, columns] = there + np.rint(change)[..., None]
    result = Image.fromarray(rgb)
    return result if detect(result).found else image


def _score(scaled: np.ndarray) -> float:
    """Return the detector's score of coefficients in units of the step, less their phases."""
    return float(np.cos(2 * np.pi * scaled).sum(dtype=np.float64)) * math.sqrt(2 / len(scaled))


def detect(image: Image.Image) -> Detection:
    """Detect the watermark in a picture of any size and mode; takes under 1 ms at 256 pixels.

    Resizing is harmless, but cropping and rotating shift the frequencies and hide the watermark.
    """
    sides = min(image.width, _MAX_SIDE), min(image.height, _MAX_SIDE)
    image = image if image.size == sides else image.resize(sides, Image.Resampling.BOX)
    luma = np.asarray(image.convert("RGB"), np.float32) @ _LUMA
    band = _band(*luma.shape)
    count = len(band.u)
    if count < _MIN_COEFFICIENTS:
        return Detection(0.0)
    scaled = _coefficients(luma, band) / STEP
    restored = np.exp(_BLURS[:, None] * band.squared_radius) * scaled  # (blurs, n)
    hypotheses = restored[:, None] / _GAINS[:, None]  # (blurs, gains, n)
    nearness = np.cos(2 * np.pi * (hypotheses - band.phase)).sum(axis=2, dtype=np.float64)
    return Detection(float(nearness.max()) * math.sqrt(2 / count))


@dataclass(frozen=True)
class _Band:
    """Frequencies, (n,) each: `u` vertical, `v` horizontal, `phase` in [0, 1), `squared_radius` = u^2 + v^2."""

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
    # Neighbours in frequency get opposite phases, so that the cosines of coefficients that are exactly zero, as in flat
    # or blurred pictures, cancel instead of adding up to an offset.
    order = np.argsort(squared, kind="stable")
    first = np.random.Generator(np.random.PCG64(_SEED)).random((len(order) + 1) // 2)
    phase = np.empty(len(order))
    phase[order] = np.stack([first, (first + 0.5) % 1], axis=1).ravel()[: len(order)]
    return _Band(u, v, phase.astype(np.float32), squared.astype(np.float32))


@lru_cache(maxsize=32)
def _band(height: int, width: int) -> _Band:
    """Return the frequencies that a picture of this size can represent."""
    full = _full_band()
    held = (full.u < _BELOW_NYQUIST * height) & (full.v < _BELOW_NYQUIST * width)
    return _Band(full.u[held], full.v[held], full.phase[held], full.squared_radius[held])


@lru_cache(maxsize=32)
def _cosines(side: int) -> np.ndarray:
    """Return the first rows of the orthonormal DCT-II matrix, float32 (HIGHEST + 1, side)."""
    frequency = np.arange(HIGHEST + 1)[:, None]
    rows = np.cos(np.pi * frequency * (np.arange(side) + 0.5) / side) * math.sqrt(2 / side)
    rows[0] /= math.sqrt(2)
    return rows.astype(np.float32)


def _coefficients(luma: np.ndarray, band: _Band) -> np.ndarray:
    """Return the DCT coefficients of luma (h, w) in the band, float32 (n,), scaled to 128 x 128 pixels."""
    height, width = luma.shape
    grid = _cosines(height) @ luma @ _cosines(width).T
    return grid[band.u, band.v] * np.float32(_REFERENCE_SIDE / math.sqrt(height * width))
