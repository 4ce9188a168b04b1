"""Convert any Pillow mode to 8-bit sRGB."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from clipkit.images.colour_space import ColourSpace, to_srgb

Declared = bytes | ColourSpace | None
"""The colour that a file declares: an ICC profile, a numeric colour space, or None for undeclared, taken as sRGB."""

BACKGROUND = (128, 128, 128)
"""The background of transparent pixels. Transparent pictures are mostly logos, icons and cut-outs: white ones would
vanish on white and black ones on black. Mid-grey is also close to CLIP's mean, so that the normalised background
contributes almost nothing to the embedding."""

_DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")
# A profile that shifts no colour of a test grid by more than this many levels counts as sRGB.
_SAME = 2
_SAMPLE = 1_000_000  # pixels sampled to estimate a range


def to_rgb(image: Image.Image, declared: Declared = None) -> Image.Image:
    """Convert a loaded picture of any Pillow mode to "RGB" in sRGB.

    `declared`: the colour that the file declares. Profiles that are unusable or for another kind of pixels are ignored.
    Transparency (alpha, palettes, colour keys) is composited on `BACKGROUND`. 16 and 32-bit greyscale is scaled to 8
    bits by `levels_of_integers`, floats by `levels_of_floats`.
    """
    if image.mode in _DEEP_MODES or image.mode == "F":
        values = np.asarray(image)
        if isinstance(declared, ColourSpace) and declared.is_high_dynamic_range and values.dtype == np.uint16:
            return Image.fromarray(to_srgb(np.repeat(values[:, :, None], 3, axis=2), declared))
        levels = levels_of_floats(values) if image.mode == "F" else levels_of_integers(values)
        return _grey(levels, _curve(declared))
    if image.mode == "LAB":
        return _through_profile(image, None) or image.getchannel("L").convert("RGB")
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode[:-1] + "A")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        grey = image.mode in ("L", "LA", "1")
        flat = Image.new("RGB", with_alpha.size, BACKGROUND)
        flat.paste(_opaque(with_alpha.convert("RGB"), declared, grey), mask=with_alpha.getchannel("A"))
        return flat
    return _opaque(image, declared, image.mode in ("L", "1"))


def _opaque(image: Image.Image, declared: Declared, grey: bool) -> Image.Image:
    """Convert a picture without alpha; `grey` means that its three channels are equal."""
    if image.mode == "CMYK":
        return (_through_profile(image, declared) if isinstance(declared, bytes) else None) or image.convert("RGB")
    if grey and (curve := _curve(declared)) is not None:
        return _grey(np.asarray(image.convert("L"), np.float32), curve)
    image = image if image.mode == "RGB" else image.convert("RGB")
    if isinstance(declared, ColourSpace):
        return image if declared.is_srgb else Image.fromarray(to_srgb(np.asarray(image), declared))
    return (_through_profile(image, declared) if declared else None) or image


def _grey(levels: np.ndarray, curve: np.ndarray | None) -> Image.Image:
    if curve is not None:
        levels = np.interp(levels, np.arange(256), curve)
    return Image.fromarray((levels + 0.5).astype(np.uint8)).convert("RGB")


def levels_of_integers(values: np.ndarray) -> np.ndarray:
    """Scale integers to 0..255, float32, from the smallest common bit depth that holds them: 8, 10, 12, 14 or 16.

    Scanners and microscopes store 12 bits in 16, which would come out black if scaled from 65535. Signed types use the
    depth of their positive half. Values beyond 16 bits use any depth. If there are negative values, the actual range is
    stretched.
    """
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0:
        return _stretched(values, lowest, highest)
    depths = {"int8": (7,), "int16": (8, 10, 12, 14, 15)}.get(values.dtype.name, (8, 10, 12, 14, 16))
    bits = next((depth for depth in depths if highest < 1 << depth), highest.bit_length())
    return values * np.float32(255 / ((1 << bits) - 1))


def levels_of_floats(values: np.ndarray) -> np.ndarray:
    """Scale floats to 0..255, float32: from 0..1 or 0..255 if nearly all values fit, else from their own range.

    One in a thousand pixels may be outside: resampling overshoots, and there are hot pixels and specular highlights.
    NaN, infinity and the huge values that mark missing data become black.
    """
    finite = np.isfinite(values) & (np.abs(values) < np.float64(1e30))
    known = values[finite][:: max(1, values.size // _SAMPLE)]
    if known.size == 0:
        return np.zeros(values.shape, np.float32)
    lowest = float(np.quantile(known, 0.001, method="higher"))
    highest = float(np.quantile(known, 0.999, method="lower"))
    if lowest > -0.1 and highest <= 2:
        lowest, highest = 0.0, 1.0
    elif lowest >= 0 and 64 <= highest <= 256:
        lowest, highest = 0.0, 255.0
    elif lowest >= 0:
        lowest = 0.0
    return _stretched(values if finite.all() else np.where(finite, values, lowest), lowest, highest)


def _stretched(values: np.ndarray, lowest: float, highest: float) -> np.ndarray:
    if highest <= lowest:
        return np.full(values.shape, 128, np.float32)
    return np.clip((values.astype(np.float64) - lowest) * (255 / (highest - lowest)), 0, 255).astype(np.float32)


def _curve(declared: Declared) -> np.ndarray | None:
    """Return the sRGB level, float64, of each of 256 grey levels; None if they are the same."""
    if isinstance(declared, ColourSpace):
        if declared.is_srgb or declared.is_high_dynamic_range:
            return None
        ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
        return to_srgb(ramp, ColourSpace(transfer=declared.transfer))[0, :, 0].astype(np.float64)
    if declared is None:
        return None
    grey = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    converted = _through_profile(grey, declared) or _through_profile(grey.convert("RGB"), declared)
    return None if converted is None else np.asarray(converted)[0].mean(axis=1)


def _through_profile(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """Convert to sRGB with an ICC profile (None: Lab); return None if it is sRGB already or does not fit the pixels."""
    try:
        transform = _transform(profile, image.mode)
        return None if transform is None else ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


@lru_cache(maxsize=32)
def _transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Build the transform to sRGB; return None if it is an identity or for another kind of pixels."""
    if profile is None:
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    else:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != ("GRAY" if mode == "L" else mode):
            return None
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    if mode == "RGB":
        steps = np.linspace(0, 255, 9).astype(np.uint8)
        grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
        converted = ImageCms.applyTransform(Image.fromarray(grid), transform)
        if converted is not None and np.abs(np.asarray(converted, np.int16) - grid).max() <= _SAME:
            return None
    return transform
