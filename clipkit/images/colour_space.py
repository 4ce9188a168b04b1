"""Colour spaces given as numbers, primaries and a transfer function, and their conversion to sRGB."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

_D65 = (0.3127, 0.3290)
_BT709 = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65)

# ITU-T H.273, table 2: (x, y) of red, green, blue, white.
_PRIMARIES = {
    1: _BT709,
    4: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), (0.310, 0.316)),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    8: ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), (0.310, 0.316)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
    22: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), _D65),
}
# ITU-T H.273, table 3. A number is the exponent of a power law.
_TRANSFERS: dict[int, str | float] = {
    1: "bt709",
    4: 2.2,
    5: 2.8,
    6: "bt709",
    7: "smpte240m",
    8: 1.0,
    11: "bt709",
    12: "bt709",
    13: "srgb",
    14: "bt709",
    15: "bt709",
    16: "pq",
    17: "smpte428",
    18: "hlg",
}
_UNSPECIFIED = 2
_VIDEO_PRIMARIES = (1, 5, 6, 7)

_REFERENCE_WHITE = 203.0
"""Luminance of diffuse white in HDR, in cd/m2 (ITU-R BT.2408); it maps to white in sRGB."""
_HLG_PEAK, _HLG_GAMMA = 1000.0, 1.2
_KNEE = 0.5
_ROWS = 1 << 18  # pixels converted at a time

_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


@dataclass(frozen=True)
class ColourSpace:
    """An RGB colour space.

    `primaries`: CIE 1931 (x, y) of red, green, blue and white.
    `transfer`: "srgb", "bt709", "smpte240m", "smpte428", "pq" or "hlg", or the exponent of a power law (decoding).
    """

    primaries: tuple[tuple[float, float], ...] = _BT709
    transfer: str | float = "srgb"

    @property
    def is_srgb(self) -> bool:
        """Whether it equals sRGB, up to the rounding of encoders."""
        return self.transfer == "srgb" and bool(np.allclose(self.primaries, _BT709, atol=0.002))

    @property
    def is_high_dynamic_range(self) -> bool:
        """Whether it encodes light brighter than white."""
        return self.transfer in ("pq", "hlg")


ADOBE_RGB = ColourSpace(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), _D65), 563 / 256)
"""Adobe RGB (1998), the optional colour space of DCF 2.0."""


def from_cicp(primaries: int, transfer: int) -> ColourSpace | None:
    """Return the space of these code points of ITU-T H.273; None if clipkit does not know them."""
    if primaries == _UNSPECIFIED:
        primaries = 1
    curve = "srgb" if transfer == _UNSPECIFIED else _TRANSFERS.get(transfer)
    if primaries not in _PRIMARIES or curve is None:
        return None
    if curve == "bt709" and primaries in _VIDEO_PRIMARIES:
        # Video tools tag ordinary pictures like this, and viewers show them as sRGB.
        curve = "srgb"
    return ColourSpace(_PRIMARIES[primaries], curve)


def from_gamma(gamma: float | None, chromaticities: tuple[float, ...] | None) -> ColourSpace | None:
    """Return the space of PNG's gAMA (encoding exponent, such as 0.45455) and cHRM (white, red, green, blue).

    Where one of them is missing or invalid, sRGB's is used. Returns None if neither is usable.
    """
    usable_gamma = gamma is not None and 0.1 <= gamma <= 10
    primaries = _chromaticities(chromaticities)
    if not usable_gamma and primaries is None:
        return None
    exponent = 1 / gamma if usable_gamma and gamma is not None else None
    # Encoders write roughly 2.2 to mean the sRGB curve, and libpng treats the two as equal.
    if exponent is None or abs(exponent / 2.2 - 1) < 0.05:
        return ColourSpace(primaries or _BT709, "srgb")
    return ColourSpace(primaries or _BT709, exponent)


def from_chromaticities(
    white: tuple[float, float],
    red: tuple[float, float],
    green: tuple[float, float],
    blue: tuple[float, float],
    *,
    transfer: str | float,
) -> ColourSpace:
    """Return the space with these CIE (x, y) and transfer function; raise ValueError if the primaries are invalid."""
    primaries = _chromaticities((*white, *red, *green, *blue))
    if primaries is None:
        raise ValueError("invalid primaries")
    return ColourSpace(primaries, transfer)


def to_srgb(pixels: np.ndarray, space: ColourSpace) -> np.ndarray:
    """Convert RGB, uint8 or uint16 (height, width, 3), to sRGB, uint8 of the same shape.

    HDR (PQ, HLG) is mapped so that the reference white of ITU-R BT.2408 is white. If more than a few pixels are
    brighter, highlights are rolled off instead of clipped.
    """
    linear_of = linear_levels(space.transfer, pixels.dtype).astype(np.float32)
    matrix = _to_srgb_matrix(space.primaries).astype(np.float32)
    luminance = _to_xyz(space.primaries)[1].astype(np.float32)
    encode = srgb_levels()
    height, width = pixels.shape[:2]
    flat, out = pixels.reshape(-1, 3), np.empty((height * width, 3), np.uint8)

    def linear(part: np.ndarray) -> np.ndarray:
        values = linear_of[part]
        if space.transfer == "hlg":
            values *= np.maximum(values @ luminance, 0)[:, None] ** (_HLG_GAMMA - 1) * (_HLG_PEAK / _REFERENCE_WHITE)
        return values @ matrix.T

    peak = 1.0
    if space.is_high_dynamic_range:
        peak = float(np.quantile(linear(flat[:: max(1, len(flat) // _ROWS)]).max(axis=1), 0.999))
    for start in range(0, len(flat), _ROWS):
        values = linear(flat[start : start + _ROWS])
        if peak > 1.01:
            values = _rolled_off(values, peak)
        index = np.clip(values, 0, 1) * np.float32(len(encode) - 1) + np.float32(0.5)
        out[start : start + _ROWS] = encode[index.astype(np.uint16)]
    return out.reshape(height, width, 3)


def _rolled_off(values: np.ndarray, peak: float) -> np.ndarray:
    """Compress the range from the knee to `peak` below 1, scaling all three channels equally to preserve hues.

    Above the knee the curve is logarithmic, with slope 1 at the knee, where it continues the linear part.
    """
    low, high = 1e-6, 1e6  # scale * log(1 + range / scale) increases with the scale and approaches the range
    for _ in range(60):
        scale = (low * high) ** 0.5
        low, high = (low, scale) if scale * np.log1p((peak - _KNEE) / scale) > 1 - _KNEE else (scale, high)
    brightest = values.max(axis=1)
    shown = np.minimum(brightest, _KNEE) + scale * np.log1p(np.maximum(brightest - _KNEE, 0) / scale)
    return values * (shown / np.maximum(brightest, 1e-6)).astype(np.float32)[:, None]


@lru_cache(maxsize=16)
def linear_levels(transfer: str | float, dtype: np.dtype) -> np.ndarray:
    """Return linear light for each stored level, float64 (256,) or (65536,), 1 being white; HLG is scene light."""
    top = np.iinfo(dtype).max
    v = np.arange(top + 1) / top
    if isinstance(transfer, float):
        return v**transfer
    if transfer == "srgb":
        return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    if transfer == "bt709":
        return np.where(v < 0.081242858, v / 4.5, ((v + 0.099296826) / 1.099296826) ** (1 / 0.45))
    if transfer == "smpte240m":
        return np.where(v < 0.0912, v / 4, ((v + 0.1115) / 1.1115) ** (1 / 0.45))
    if transfer == "smpte428":
        return v**2.6 * 52.37 / 48
    if transfer == "pq":  # SMPTE ST 2084
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = v ** (1 / m2)
        return (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1) * (10_000 / _REFERENCE_WHITE)
    if transfer == "hlg":  # ITU-R BT.2100
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(v <= 0.5, v**2 / 3, (np.exp((v - c) / a) + b) / 12)
    raise ValueError(f"unknown transfer function: {transfer!r}")


@lru_cache(maxsize=1)
def srgb_levels() -> np.ndarray:
    """Return the sRGB level, uint8, of each of 65,536 steps of linear light from 0 to 1 (IEC 61966-2-1)."""
    light = np.linspace(0, 1, 65536)
    levels = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return (levels * 255 + 0.5).astype(np.uint8)


def _chromaticities(values: tuple[float, ...] | None) -> tuple[tuple[float, float], ...] | None:
    if values is None or len(values) != 8:
        return None
    white, red, green, blue = ((float(values[i]), float(values[i + 1])) for i in range(0, 8, 2))
    primaries = red, green, blue, white
    if not all(0 <= x <= 1 and 0 < y <= 1 for x, y in primaries):
        return None
    (rx, ry), (gx, gy), (bx, by) = red, green, blue
    area = abs((gx - rx) * (by - ry) - (bx - rx) * (gy - ry)) / 2
    return primaries if area > 0.01 else None  # the three are collinear and span no space


def _xyz_of(xy: tuple[float, float]) -> np.ndarray:
    x, y = xy
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    columns = np.stack([_xyz_of(xy) for xy in primaries[:3]], axis=1)
    return columns * np.linalg.solve(columns, _xyz_of(primaries[3]))


@lru_cache(maxsize=32)
def _to_srgb_matrix(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Return the matrix from linear RGB of these primaries to linear sRGB, with Bradford white point adaptation."""
    cone, cone65 = _BRADFORD @ _xyz_of(primaries[3]), _BRADFORD @ _xyz_of(_D65)
    adapt = np.linalg.inv(_BRADFORD) @ np.diag(cone65 / cone) @ _BRADFORD
    return np.linalg.inv(_to_xyz(_BT709)) @ adapt @ _to_xyz(primaries)
